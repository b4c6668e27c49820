"""What kind of file an upload is, found by its content, and its text as a stream."""

from __future__ import annotations

import codecs
import gzip
import re
import zlib
from collections.abc import Iterator
from typing import BinaryIO, cast

from fl_assets.errors import BadDataError

CHUNK = 1 << 21
LONGEST_LINE = 1 << 20
"""Characters of a line beyond which a file is no table."""

_HEAD = 8  # bytes that tell the kind of a file
_UTF8_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
_GZIP = b"\x1f\x8b"
_PARQUET = b"PAR1"
_REFUSED = {
    b"PK\x03\x04": ("a spreadsheet or ZIP archive", "save the sheet as CSV (UTF-8)"),
    b"\xd0\xcf\x11\xe0": ("an old Excel file", "save the sheet as CSV (UTF-8)"),
    b"PARE": ("an encrypted Parquet file", "write it without encryption"),
    b"BZh": ("compressed with bzip2", "compress it with gzip, or not at all"),
    b"\xfd7zXZ\0": ("compressed with xz", "compress it with gzip, or not at all"),
    b"(\xb5/\xfd": ("compressed with Zstandard", "compress it with gzip, or not at all"),
}
_NOT_ASCII = re.compile(rb"[\x80-\xff]")
_UTF8_SEQUENCE = re.compile(
    rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}"
)
_UTF8_BEGUN = re.compile(rb"[\xc2-\xf4][\x80-\xbf]{0,2}")


class NotTextError(BadDataError):
    """A file in a format that is not read, known by its first bytes."""

    def __init__(self, name: str, kind: str, cure: str) -> None:
        super().__init__(f"{name} is {kind}: {cure}")


class EncodingError(BadDataError):
    """A file whose bytes are no text in an encoding that can be told."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name} {why}: export it anew as UTF-8")


class DamagedFileError(BadDataError):
    """A compressed or Parquet file that does not unpack."""

    def __init__(self, name: str, kind: str, why: str) -> None:
        super().__init__(
            f"{name} is a damaged {kind} file ({why}): the transfer broke off or changed it; send "
            "the whole file again, in binary mode"
        )


class LineError(BadDataError):
    """A file with a line too long for a table."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name} has a line of more than {LONGEST_LINE:,} characters, so it is no table: send "
            "rows on lines of their own"
        )


class ParquetUpload:
    """An upload that is a Parquet file; see :mod:`fl_assets.cohorts.parquet`."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream


class TextUpload:
    """An upload that is text."""

    def __init__(self, stream: BinaryIO, name: str, encoding: str) -> None:
        self._stream = stream
        self._name = name
        self._decoder = _Decoder(name, encoding)

    @property
    def encoding(self) -> str:
        """What was found so far; ``ascii`` while no byte has told."""
        return self._decoder.encoding

    def blocks(self) -> Iterator[str]:
        """Yield the text in blocks of whole lines; only the last may lack its line end.

        Raises:
            EncodingError: bytes that are no text.
            DamagedFileError: the file is compressed and does not unpack.
            LineError: a line without end.
        """
        rest = ""
        # Small at first, so that a small file gives every thread its share.
        size = -(-CHUNK // 4)
        while data := _read(self._stream, self._name, size):
            size = min(2 * size, CHUNK)
            text = rest + self._decoder.decode(data)
            # A carriage return at the end may have its line feed in the next chunk.
            end = max(text.rfind("\n"), text.rfind("\r", 0, -1)) + 1
            if len(text) - end > LONGEST_LINE:
                raise LineError(self._name)
            if end:
                yield text[:end]
            rest = text[end:]
        rest += self._decoder.decode(b"", final=True)
        if rest:
            yield rest


def open_upload(stream: BinaryIO, name: str) -> TextUpload | ParquetUpload:
    """Find out what an upload is.

    Text may be UTF-8, UTF-16 or Windows-1252 (of which Latin-1 is a part), and compressed by gzip.

    Args:
        stream: seekable, as a site store opens it.
        name: of the file, for messages.

    Raises:
        NotTextError: a spreadsheet, another archive, or packed twice.
        DamagedFileError: compressed, and its beginning does not unpack.
    """
    head = _head(stream, name)
    if head.startswith(_PARQUET):
        return ParquetUpload(stream)
    if head.startswith(_GZIP):
        stream = cast("BinaryIO", gzip.GzipFile(fileobj=stream))
        head = _head(stream, name)
        if head.startswith((_GZIP, _PARQUET)):
            raise NotTextError(name, "compressed twice", "send what is in it")
    for signature, (kind, cure) in _REFUSED.items():
        if head.startswith(signature):
            raise NotTextError(name, kind, cure)
    encoding, mark = _encoding(head)
    stream.seek(mark)
    return TextUpload(stream, name, encoding)


def _head(stream: BinaryIO, name: str) -> bytes:
    head = b""
    while len(head) < _HEAD and (more := _read(stream, name, _HEAD - len(head))):
        head += more
    stream.seek(0)
    return head


def _read(stream: BinaryIO, name: str, size: int) -> bytes:
    try:
        return stream.read(size)
    except EOFError:
        raise DamagedFileError(name, "gzip", "it ends too early") from None
    except (gzip.BadGzipFile, zlib.error):
        raise DamagedFileError(name, "gzip", "its content or checksum is wrong") from None


def _encoding(head: bytes) -> tuple[str, int]:
    """Return the encoding that the first bytes tell, and the length of the mark before the text."""
    if head.startswith(_UTF8_MARK):
        return "utf-8", len(_UTF8_MARK)
    for mark, encoding in _UTF16_MARKS.items():
        if head.startswith(mark):
            return encoding, len(mark)
    # Without a mark: a table begins with two letters, digits or delimiters of ASCII.
    first, second = head[0:4:2], head[1:4:2]
    if len(head) == _HEAD and all(first) and not any(second):
        return "utf-16-le", 0
    if len(head) == _HEAD and all(second) and not any(first):
        return "utf-16-be", 0
    return "ascii", 0


class _Decoder:
    """From bytes to text, chunk by chunk.

    What begins as ASCII is UTF-8 or Windows-1252. The first other byte decides: no text of a
    European language in Windows-1252 has a UTF-8 sequence in it. All later ones must be of the same
    kind, so that no file is read half in the one and half in the other.
    """

    def __init__(self, name: str, encoding: str) -> None:
        self.encoding = encoding
        self._name = name
        self._offset = 0
        self._rest = b""
        self._before = b""

    def decode(self, data: bytes, *, final: bool = False) -> str:
        data = self._rest + data
        if self.encoding == "ascii":
            self._decide(data, final)
        try:
            text, used = self._text(data, final)
        except UnicodeDecodeError as error:
            place = self._offset + error.start
            raise EncodingError(
                self._name, f"is not {self.encoding.upper()} text throughout (byte {place})"
            ) from None
        if "\0" in text:
            raise EncodingError(self._name, "has a NUL byte, so it is no text")
        self._offset += used
        self._rest = data[used:]
        return text

    def _decide(self, data: bytes, final: bool) -> None:
        found = None if data.isascii() else _NOT_ASCII.search(data)
        if found is None:
            return
        start = found.start()
        if _UTF8_SEQUENCE.match(data, start):
            self.encoding = "utf-8"
        elif not _UTF8_BEGUN.fullmatch(data, start):
            self.encoding = "windows-1252"
        elif final:
            raise EncodingError(self._name, "ends inside a character")

    def _text(self, data: bytes, final: bool) -> tuple[str, int]:
        if self.encoding == "windows-1252":
            # A sequence may lie across two chunks.
            if _UTF8_SEQUENCE.search(self._before + data):
                raise EncodingError(self._name, "is UTF-8 in some places and not in others")
            self._before = data[-3:]
            return data.decode("cp1252"), len(data)
        if self.encoding == "ascii":
            found = None if data.isascii() else _NOT_ASCII.search(data)
            return codecs.ascii_decode(data[: found.start()] if found else data, "strict")
        decode = {
            "utf-8": codecs.utf_8_decode,
            "utf-16-le": codecs.utf_16_le_decode,
            "utf-16-be": codecs.utf_16_be_decode,
        }[self.encoding]
        return decode(data, "strict", final)

"""Reading a delimited text file into raw rows, so that every line is accounted for."""

from __future__ import annotations

import csv
import io
import string
from collections.abc import Collection, Iterator

import pandas as pd

from fl_assets.cohorts.spec import CohortSpec
from fl_assets.errors import BadDataError

LINE = "_line"
PROBLEM = "_problem"
TEXT = "_text"
DELIMITERS = ",;\t|"
_BLANK = string.whitespace + DELIMITERS


class EmptyFileError(BadDataError):
    """A file without a single data row."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} holds no data row: send the file again, with a header and rows")


class NotTextError(BadDataError):
    """A file in another format than delimited UTF-8 text, known by its first bytes."""

    def __init__(self, name: str, kind: str, cure: str) -> None:
        super().__init__(f"{name} is {kind}: {cure}")


_SIGNATURES = {
    b"PK\x03\x04": ("a spreadsheet or ZIP archive", "save the sheet as CSV (UTF-8)"),
    b"\xd0\xcf\x11\xe0": ("an old Excel file", "save the sheet as CSV (UTF-8)"),
    b"\x1f\x8b": ("compressed", "unpack it with gunzip first"),
    b"PAR1": ("a Parquet file", "export it as CSV (UTF-8)"),
    b"\xff\xfe": ("UTF-16 text", "convert it with `iconv -f utf-16 -t utf-8`"),
    b"\xfe\xff": ("UTF-16 text", "convert it with `iconv -f utf-16 -t utf-8`"),
}


class EncodingError(BadDataError):
    """A file that is not UTF-8 text."""

    def __init__(self, name: str, offset: int) -> None:
        super().__init__(
            f"{name} is not UTF-8 text (first bad byte at offset {offset}): export it as UTF-8; if "
            "it is in Western European encoding, `iconv -f latin1 -t utf-8` converts it"
        )


class TruncatedFileError(BadDataError):
    """A file that ends inside a row."""

    def __init__(self, name: str, line: int) -> None:
        super().__init__(
            f"{name} ends inside the row that starts in line {line}: the transfer broke off or a "
            "quote is never closed; send the whole file again"
        )


class QuotingError(BadDataError):
    """A file whose quotes make it unsure where rows and fields end."""

    def __init__(self, name: str, line: int) -> None:
        super().__init__(
            f"{name}: the row that starts in line {line} has a quote inside a field, or a field "
            "without end: double the quotes that belong to a value"
        )


class HeaderError(BadDataError):
    """A header that does not name the cohort's columns, each once."""


def read_rows(
    data: bytes, spec: CohortSpec, name: str, optional: Collection[str] = ()
) -> pd.DataFrame:
    """Read a delimited file with a header line into raw rows.

    The delimiter (comma, semicolon, tab or bar) is the one that splits the header into the most
    columns of the cohort. A row with another number of fields, as a second delimiter leaves it, is
    kept and marked; nothing is dropped but lines without text. Messages never quote a row.

    Args:
        data: the file's bytes, UTF-8 with or without byte order mark.
        spec: the cohort; the header must name its file columns, in any order.
        name: of the file, for messages.
        optional: columns that the header may leave out.

    Returns:
        One row per data row: the line where it starts in ``_line``, what is wrong with its shape
        in ``_problem`` (None if nothing), its text in ``_text`` (None unless the shape is wrong),
        and those of ``spec.file_columns`` that the header names as stripped text (None in a row
        of the wrong shape).

    Raises:
        EmptyFileError: no data row.
        NotTextError: a spreadsheet, an archive, Parquet or UTF-16.
        EncodingError: not UTF-8.
        TruncatedFileError: the file ends inside a row or a quoted field.
        QuotingError: a quote where none may stand.
        HeaderError: columns missing, unknown or named twice.
    """
    text = _decode(data, name)
    delimiter = _delimiter(text, spec)
    records = _records(text, delimiter, name)
    _, header = next(records, (0, []))
    if not header:
        raise EmptyFileError(name)
    _check_header(header, spec, name, optional)
    rows: list[list[str | int | None]] = []
    for line, fields in records:
        found, wanted = len(fields), len(header)
        if found == wanted:
            rows.append([line, None, None, *fields])
        else:
            problem = f"{found} fields where the header has {wanted}"
            rows.append([line, problem, delimiter.join(fields), *[None] * wanted])
    if not rows:
        raise EmptyFileError(name)
    if found < wanted and not text.endswith(("\n", "\r")):
        raise TruncatedFileError(name, line)
    frame = pd.DataFrame(rows, columns=[LINE, PROBLEM, TEXT, *header], dtype=object)
    named = [column for column in spec.file_columns if column in header]
    return frame[[LINE, PROBLEM, TEXT, *named]].astype({LINE: "int64"})


def _decode(data: bytes, name: str) -> str:
    for signature, (kind, cure) in _SIGNATURES.items():
        if data.startswith(signature):
            raise NotTextError(name, kind, cure)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise EncodingError(name, error.start) from None
    # Text in name only: UTF-16 without a mark, or a binary file.
    if "\0" in text:
        raise EncodingError(name, data.index(b"\0"))
    return text


def _delimiter(text: str, spec: CohortSpec) -> str:
    first = next((line for line in io.StringIO(text, newline="") if line.strip(_BLANK)), "")
    wanted = set(spec.file_columns)

    def columns_named(delimiter: str) -> int:
        fields = first.split(delimiter)
        return len(wanted & {field.strip(string.whitespace + '"') for field in fields})

    return max(DELIMITERS, key=columns_named)


def _records(text: str, delimiter: str, name: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the first line and the stripped fields of every record that has any text."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1
    try:
        for fields in reader:
            if any(field.strip(_BLANK) for field in fields):
                yield line, [field.strip() for field in fields]
            line = reader.line_num + 1
    except csv.Error as error:
        if "unexpected end of data" in str(error):
            raise TruncatedFileError(name, line) from None
        raise QuotingError(name, line) from None


def _check_header(
    header: list[str], spec: CohortSpec, name: str, optional: Collection[str]
) -> None:
    wanted = spec.file_columns
    missing = [c for c in wanted if c not in header and c not in optional]
    twice = [c for c in wanted if header.count(c) > 1]
    unknown = [place for place, c in enumerate(header, 1) if c not in wanted]
    faults = [
        f"{what}: {', '.join(columns)}"
        for what, columns in (("missing", missing), ("named twice", twice))
        if columns
    ]
    if unknown:
        # By place: in a file without a header they are a patient's values.
        faults.append(f"{len(unknown)} not in the cohort (the first is column {unknown[0]})")
    if faults:
        raise HeaderError(
            f"{name}: columns {'; '.join(faults)}. The first line must name the columns of cohort "
            f"{spec.name}: {', '.join(wanted)}"
        )

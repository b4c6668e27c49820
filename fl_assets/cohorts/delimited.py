"""Delimited text, block by block, to raw rows."""

from __future__ import annotations

import csv
import io
import re
import string
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import TypeVar

import pandas as pd

from fl_assets.errors import BadDataError

LINE = "_line"
PROBLEM = "_problem"
TEXT = "_text"
DELIMITERS = ",;\t|"
BLANK = string.whitespace + DELIMITERS

_PIECE = 10_000
_SAMPLE = 100
SPACES = "".join(c for c in map(chr, range(sys.maxunicode + 1)) if c.isspace())
# What the quick parser takes otherwise than the csv module, or does not know.
_ODD = re.compile(rf"\r(?!\n)|\n[{re.escape(BLANK)}]*(?:\n|\Z)")

Record = tuple[int, list[str], int]
"""Its first line, its stripped fields, the line after it."""

T = TypeVar("T")
Quick = Callable[[str, str, Sequence[str], int], T | None]
"""From a block, its delimiter, the header and its first line's number to its rows; None declines.
A block is whole lines, but for the last one's end. One that is not declined has no lone carriage
return, and its last row is whole."""


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


class Delimited:
    """A delimited file; lines without text before the first one are left out.

    Args:
        blocks: its text in blocks of whole lines.
        name: of the file, for messages.
    """

    def __init__(self, blocks: Iterator[str], name: str) -> None:
        self._blocks = blocks
        self._name = name
        self._line = 1
        self._block = ""
        for block in blocks:
            if block.strip(BLANK):
                self._block = block
                break
            self._line += _count(block)

    def sample(self) -> list[str]:
        """Return the first lines that have any text, a hundred at most."""
        lines = (line for line in _lines(self._block) if line.strip(BLANK))
        return list(islice(lines, _SAMPLE))

    def first_record(self, delimiter: str) -> list[str]:
        """Return the fields of the first record; empty where there is none."""
        return next(self._records(_lines(self._block), delimiter), (0, [], 0))[1]

    def skip_record(self, delimiter: str) -> None:
        """Leave out the first record."""
        _, _, after = next(self._records(_lines(self._block), delimiter))
        skipped = islice(_lines(self._block), after - self._line)
        self._block = self._block[sum(map(len, skipped)) :]
        self._line = after

    def pieces(
        self, delimiter: str, header: Sequence[str], quick: Quick[T]
    ) -> Iterator[pd.DataFrame | T]:
        """Yield the rows in pieces of some thousands.

        Args:
            delimiter: between fields.
            header: names of the columns; those that start with an underscore are left out.
            quick: tried on every block of whole lines.

        Yields:
            What ``quick`` returns; where it declines, ``_line``, ``_problem``, ``_text`` and the
            header's columns, see :func:`fl_assets.cohorts.reader.read_batches`.

        Raises:
            TruncatedFileError, QuotingError: as there.
        """
        end = True
        last: Record | None = None
        for block in chain([self._block], self._blocks):
            end = block.endswith(("\n", "\r"))
            quickly = quick(block, delimiter, header, self._line)
            if quickly is not None:
                last = None
                self._line += block.count("\n") + (not block.endswith("\n"))
                yield quickly
                continue
            if '"' in block:
                # A quoted field may hold line ends, so the blocks no longer end with a row.
                rest = _Rest(block, self._blocks)
                records = self._records(rest, delimiter)
                while piece := list(islice(records, _PIECE)):
                    last = piece[-1]
                    yield _frame(piece, header, delimiter)
                end = rest.ended
                break
            piece = list(self._records(_lines(block), delimiter))
            self._line += _count(block)
            if piece:
                last = piece[-1]
                yield _frame(piece, header, delimiter)
        if last is not None and len(last[1]) < len(header) and not end:
            raise TruncatedFileError(self._name, last[0])

    def _records(self, lines: Iterable[str], delimiter: str) -> Iterator[Record]:
        """Yield every record that has any text."""
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        before = self._line
        line = before
        try:
            for fields in reader:
                after = before + reader.line_num
                if any(field.strip(BLANK) for field in fields):
                    yield line, [field.strip() for field in fields], after
                line = after
        except csv.Error as error:
            if "unexpected end of data" in str(error):
                raise TruncatedFileError(self._name, line) from None
            raise QuotingError(self._name, line) from None


class _Rest:
    """The lines of a block and of those after it.

    Attributes:
        ended: whether the last line so far has its end.
    """

    def __init__(self, block: str, blocks: Iterator[str]) -> None:
        self._blocks = chain([block], blocks)
        self.ended = True

    def __iter__(self) -> Iterator[str]:
        for block in self._blocks:
            self.ended = block.endswith(("\n", "\r"))
            yield from _lines(block)


def _lines(block: str) -> Iterator[str]:
    return iter(io.StringIO(block, newline=""))


def _count(block: str) -> int:
    return sum(1 for _ in _lines(block))


def _frame(records: Sequence[Record], header: Sequence[str], delimiter: str) -> pd.DataFrame:
    rows: list[list[str | int | None]] = []
    wanted = len(header)
    for line, fields, _ in records:
        if len(fields) == wanted:
            rows.append([line, None, None, *fields])
        else:
            problem = f"{len(fields)} fields where the header has {wanted}"
            rows.append([line, problem, delimiter.join(fields), *[None] * wanted])
    frame = pd.DataFrame(rows, columns=[LINE, PROBLEM, TEXT, *header], dtype=object)
    return frame.astype({LINE: "int64"})


def raw_rows(
    lines: Iterable[tuple[int, str]], delimiter: str, header: Sequence[str], name: str
) -> pd.DataFrame:
    """Return the raw rows of lines without quotes, given with their numbers."""
    records: list[Record] = []
    for line, text in lines:
        try:
            (fields,) = csv.reader([text], delimiter=delimiter, strict=True)
        except csv.Error:
            raise QuotingError(name, line) from None
        if any(field.strip(BLANK) for field in fields):
            records.append((line, [field.strip() for field in fields], line + 1))
    return _frame(records, header, delimiter)


def parse_block(
    block: str, delimiter: str, header: Sequence[str], line: int
) -> pd.DataFrame | None:
    """Return the rows of a block that has nothing unusual in it, several times faster.

    None where it has: a quote, a row of another shape, a line without text, a lone carriage
    return.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import csv as fast

    if not block or '"' in block or _ODD.search("\n" + block.removesuffix("\n").removesuffix("\r")):
        return None
    data = block.encode()
    try:
        table = fast.read_csv(
            io.BytesIO(data),
            fast.ReadOptions(
                column_names=list(header), use_threads=False, block_size=len(data) + 1
            ),
            fast.ParseOptions(delimiter=delimiter, quote_char=False, ignore_empty_lines=False),
            fast.ConvertOptions(
                column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid:
        return None
    trimmed = [pc.utf8_trim(column, characters=SPACES) for column in table.columns]
    frame: pd.DataFrame = pa.table(trimmed, names=list(header)).to_pandas()
    frame.insert(0, LINE, range(line, line + len(frame)))
    frame.insert(1, PROBLEM, None)
    frame.insert(2, TEXT, None)
    return frame.astype({LINE: "int64", PROBLEM: object, TEXT: object})

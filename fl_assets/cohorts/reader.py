"""Reading a delimited text file into raw rows, so that every line is accounted for."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterator

import pandas as pd

from fl_assets.cohorts.spec import CohortSpec
from fl_assets.errors import BadDataError

LINE = "_line"
PROBLEM = "_problem"
DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}


class EmptyFileError(BadDataError):
    """A file without a single data row."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} holds no data row: send the file again, with a header and rows")


class EncodingError(BadDataError):
    """A file that is not UTF-8 text."""

    def __init__(self, name: str, offset: int) -> None:
        super().__init__(
            f"{name} is not UTF-8 text (first bad byte at offset {offset}): export it as UTF-8, "
            "for example with `iconv -f latin1 -t utf-8`"
        )


class TruncatedFileError(BadDataError):
    """A file that ends inside a row."""

    def __init__(self, name: str, line: int) -> None:
        super().__init__(f"{name} ends inside line {line}: the transfer broke off, send it again")


class HeaderError(BadDataError):
    """A header that does not name the cohort's columns, each once."""


def read_rows(
    data: bytes, spec: CohortSpec, name: str, optional: Collection[str] = ()
) -> pd.DataFrame:
    """Read a delimited file with a header line into raw rows.

    The delimiter (comma, semicolon, tab or bar) is the one that splits the header into the most
    columns of the cohort. A row with another number of fields, as a second delimiter leaves it, is
    kept and marked; nothing is dropped but blank lines.

    Args:
        data: the file's bytes, UTF-8 with or without byte order mark.
        spec: the cohort; the header must name its file columns, in any order.
        name: of the file, for messages.
        optional: columns that the header may leave out.

    Returns:
        One row per data row: the line number in ``_line``, what is wrong with the row's shape in
        ``_problem`` (None if nothing), and those of ``spec.file_columns`` that the header names as
        stripped text (None in a row of the wrong shape).

    Raises:
        EmptyFileError: no data row.
        EncodingError: not UTF-8.
        TruncatedFileError: the file ends inside a row or a quoted field.
        HeaderError: columns missing, unknown or named twice.
    """
    text = _decode(data, name)
    header, delimiter = _header(text, spec, name, optional)
    lines: list[int] = []
    problems: list[str | None] = []
    rows: list[list[str]] = []
    empty: list[str] = [None] * len(header)  # type: ignore[list-item]
    for line, fields in _records(text, delimiter, name):
        right_shape = len(fields) == len(header)
        lines.append(line)
        problems.append(
            None if right_shape else f"{len(fields)} fields where the header has {len(header)}"
        )
        rows.append([field.strip() for field in fields] if right_shape else empty)
    if not rows:
        raise EmptyFileError(name)
    if len(problems) and problems[-1] is not None and not text.endswith(("\n", "\r")):
        raise TruncatedFileError(name, lines[-1])
    frame = pd.DataFrame(rows, columns=header, dtype=object)[
        [column for column in spec.file_columns if column in header]
    ]
    frame.insert(0, LINE, lines)
    frame.insert(1, PROBLEM, pd.Series(problems, dtype=object))
    return frame


def _decode(data: bytes, name: str) -> str:
    if not data.strip():
        raise EmptyFileError(name)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise EncodingError(name, error.start) from None
    if "\0" in text:
        raise EncodingError(name, len(text[: text.index("\0")].encode()))
    return text


def _header(
    text: str, spec: CohortSpec, name: str, optional: Collection[str]
) -> tuple[list[str], str]:
    first = text.lstrip().splitlines()[0]
    wanted = set(spec.file_columns)

    def split(delimiter: str) -> list[str]:
        return [field.strip() for field in next(csv.reader([first], delimiter=delimiter))]

    delimiter = max(DELIMITERS, key=lambda d: len(wanted & set(split(d))))
    header = split(delimiter)
    missing = [c for c in spec.file_columns if c not in header and c not in optional]
    unknown = [column for column in header if column not in wanted]
    twice = sorted({column for column in header if header.count(column) > 1})
    faults = [
        f"{what}: {', '.join(columns)}"
        for what, columns in (("missing", missing), ("named twice", twice))
        if columns
    ]
    # A file without a header has a patient's values where the names should be.
    if unknown:
        faults.append(
            f"{len(unknown)} not in the cohort"
            if missing
            else f"not in the cohort: {', '.join(unknown)}"
        )
    if faults:
        raise HeaderError(
            f"{name}: columns {'; '.join(faults)}. The first line must name the columns of cohort "
            f"{spec.name}: {', '.join(spec.file_columns)}"
        )
    return header, delimiter


def _records(text: str, delimiter: str, name: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header_seen = False
    try:
        for fields in reader:
            if not any(field.strip() for field in fields):
                continue
            if header_seen:
                yield reader.line_num, fields
            header_seen = True
    except csv.Error as error:
        if "unexpected end of data" in str(error):
            raise TruncatedFileError(name, reader.line_num) from None
        raise HeaderError(f"{name}, line {reader.line_num}: {error}; check the quoting") from None

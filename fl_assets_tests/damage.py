"""Data files as hospitals get them wrong."""

from __future__ import annotations

import bz2
import gzip
import io
from collections.abc import Callable, Sequence

import pandas as pd
from hypothesis import strategies as st

from fl_assets.cohorts.spec import CohortSpec
from fl_assets.cohorts.synthetic import generate

Damage = Callable[[list[str]], bytes]
"""From the lines of a good file, header first and without line ends, to a bad file."""


def good_lines(spec: CohortSpec, rows: int = 6, seed: int = 1) -> list[str]:
    """The lines of a file that fits."""
    return generate(spec, rows, seed).to_csv(index=False, lineterminator="\n").splitlines()


def as_file(lines: Sequence[str], end: str = "\n") -> bytes:
    return "".join(line + end for line in lines).encode()


def as_parquet(lines: Sequence[str]) -> bytes:
    """The same table as a Parquet file of texts."""
    buffer = io.BytesIO()
    frame = pd.read_csv(io.BytesIO(as_file(lines)), dtype=str, keep_default_na=False)
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()


def changed(data: bytes, place: int) -> bytes:
    """The data with one byte another."""
    bad = bytearray(data)
    bad[place] ^= 0xFF
    return bytes(bad)


def holed(data: bytes) -> bytes:
    """The data with its first blocks overwritten, its end whole."""
    return data[:4] + b"\xff" * 60 + data[64:]


def without_column(lines: list[str], place: int) -> bytes:
    cut = [line.split(",") for line in lines]
    return as_file([",".join(fields[:place] + fields[place + 1 :]) for fields in cut])


REFUSED: dict[str, tuple[Damage, str, str]] = {
    "nothing": (lambda _: b"", "EmptyFileError", "holds no data row"),
    "blank lines alone": (lambda _: b"\r\n  \n\t\n", "EmptyFileError", "holds no data row"),
    "delimiters alone": (lambda _: b",,,\n;;;\n", "EmptyFileError", "holds no data row"),
    "header alone": (lambda lines: as_file(lines[:1]), "EmptyFileError", "holds no data row"),
    "header without end": (
        lambda lines: lines[0].encode(),
        "EmptyFileError",
        "holds no data row",
    ),
    "half a header": (lambda lines: lines[0][:20].encode(), "HeaderError", "missing: "),
    "no header": (lambda lines: as_file(lines[1:]), "HeaderError", "missing: id, gender, age"),
    "header glued to the first row": (
        lambda lines: as_file([",".join(lines[:2]), *lines[2:]]),
        "HeaderError",
        "not in the cohort: 12 (the first is column 13)",
    ),
    "missing column": (lambda lines: without_column(lines, 2), "HeaderError", "missing: age"),
    "two missing columns": (
        lambda lines: without_column(without_column(lines, 2).decode().splitlines(), 0),
        "HeaderError",
        "missing: id, age",
    ),
    "unknown column": (
        lambda lines: as_file([lines[0] + ",shoe_size", *[line + ",42" for line in lines[1:]]]),
        "HeaderError",
        "not in the cohort: 1 (the first is column 13)",
    ),
    "column named twice": (
        lambda lines: as_file([lines[0] + ",age", *[line + ",42" for line in lines[1:]]]),
        "HeaderError",
        "named twice: age",
    ),
    "cut in a row": (
        lambda lines: as_file(lines)[:-25],
        "TruncatedFileError",
        "ends inside the row that starts in line 7",
    ),
    "cut in a quoted field": (
        lambda lines: as_file([*lines[:3], '"' + lines[3], *lines[4:]]),
        "TruncatedFileError",
        "ends inside the row that starts in line 4",
    ),
    "quote in a field": (
        lambda lines: as_file([*lines[:2], '"a"b' + lines[2], *lines[3:]]),
        "QuotingError",
        "line 3 has a quote inside a field",
    ),
    "field without end": (
        lambda lines: as_file([*lines[:3], '"' + lines[3] + "x" * 200_000 + '"']),
        "QuotingError",
        "line 4",
    ),
    "two encodings in one file": (
        lambda lines: as_file(lines) + lines[1].encode() + "é\n".encode() + "é\n".encode("cp1252"),
        "EncodingError",
        "is not UTF-8 text throughout (byte ",
    ),
    "two encodings, the other first": (
        lambda lines: as_file(lines) + "é\n".encode("cp1252") + lines[1].encode() + "é\n".encode(),
        "EncodingError",
        "is UTF-8 in some places and not in others",
    ),
    "a byte that Windows-1252 does not have": (
        lambda lines: as_file(lines) + b"\xe4\x81\n",
        "EncodingError",
        "is not WINDOWS-1252 text throughout (byte ",
    ),
    "cut inside a character": (
        lambda lines: as_file(lines) + "é".encode()[:1],
        "EncodingError",
        "ends inside a character",
    ),
    "utf-16 cut inside a character": (
        lambda lines: as_file(lines).decode().encode("utf-16")[:-1],
        "EncodingError",
        "is not UTF-16-LE text throughout",
    ),
    "a NUL byte": (
        lambda lines: as_file(lines).replace(b",", b",\0", 15),
        "EncodingError",
        "has a NUL byte",
    ),
    "a picture": (
        lambda _: b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256)),
        "EncodingError",
        "is not WINDOWS-1252 text throughout (byte ",
    ),
    "gzip cut off": (
        lambda lines: gzip.compress(as_file(lines))[:-12],
        "DamagedFileError",
        "is a damaged gzip file (it ends too early)",
    ),
    "gzip with a changed byte": (
        lambda lines: changed(gzip.compress(as_file(lines)), -6),
        "DamagedFileError",
        "is a damaged gzip file (its content or checksum is wrong)",
    ),
    "gzip with something behind it": (
        lambda lines: gzip.compress(as_file(lines)) + b"more",
        "DamagedFileError",
        "is a damaged gzip file",
    ),
    "gzip in gzip": (
        lambda lines: gzip.compress(gzip.compress(as_file(lines))),
        "NotTextError",
        "is compressed twice: send what is in it",
    ),
    "gzip of a spreadsheet": (
        lambda _: gzip.compress(b"PK\x03\x04\x14\0\x06\0\x08\0\0\0!\0"),
        "NotTextError",
        "save the sheet as CSV",
    ),
    "Parquet cut off": (
        lambda lines: as_parquet(lines)[:-20],
        "DamagedFileError",
        "is a damaged Parquet file (its end, which describes the rest, cannot be read)",
    ),
    "Parquet with a hole": (
        lambda lines: holed(as_parquet(lines)),
        "DamagedFileError",
        "is a damaged Parquet file (a part of its data cannot be read)",
    ),
    "Parquet without a column": (
        lambda lines: as_parquet(without_column(lines, 2).decode().splitlines()),
        "HeaderError",
        "missing: age",
    ),
    "Parquet with another column": (
        lambda lines: as_parquet([lines[0] + ",shoe_size", *[line + ",42" for line in lines[1:]]]),
        "HeaderError",
        "not in the cohort: 1 (the first is column 13)",
    ),
    "Parquet without rows": (
        lambda lines: as_parquet(lines[:1]),
        "EmptyFileError",
        "holds no data row",
    ),
    "a line without end": (
        lambda lines: as_file(lines) + b"x" * 3_000_000,
        "LineError",
        "has a line of more than 1,048,576 characters",
    ),
    "another compression": (
        lambda lines: bz2.compress(as_file(lines)),
        "NotTextError",
        "compress it with gzip",
    ),
    "a spreadsheet": (
        lambda _: b"PK\x03\x04\x14\0\x06\0\x08\0\0\0!\0",
        "NotTextError",
        "save the sheet as CSV",
    ),
}
"""Damages for which a whole file (of ``good_lines``) is refused: the damage, the error's type, part
of its text."""


def replaced(frame: pd.DataFrame, row: int, column: str, value: str) -> bytes:
    """A text frame as a file, with one field replaced."""
    changed = frame.copy()
    changed.loc[row, column] = value
    return changed.to_csv(index=False).encode()


Edit = tuple[str, int, int, str]
"""What to do, and to which row and field."""

_FIELD = st.text(alphabet="0123456789.-; |\tNA/ab\u00e9", max_size=8) | st.sampled_from(
    ["", "Male", "1", "0", "45", "999", "Yes", "inf", "N/A", "a,b"]
)
_EDIT: st.SearchStrategy[Edit] = st.tuples(
    st.sampled_from(["field", "double", "split", "drop", "blank", "move"]),
    st.integers(0, 10**6),
    st.integers(0, 11),
    _FIELD,
)
EDITS = st.lists(_EDIT, max_size=25)


def damaged(lines: list[str], edits: list[Edit]) -> list[str]:
    """The lines after edits of their rows; without quotes, so that a line is a row."""
    header, rows = lines[0], lines[1:]
    for kind, at, place, value in edits:
        row = at % len(rows)
        fields = rows[row].split(",")
        match kind:
            case "field":
                fields[place % len(fields)] = value
                rows[row] = ",".join(fields)
            case "double":
                rows.insert(at % (len(rows) + 1), rows[row])
            case "split":
                rows[row] = rows[row].replace(",", ";", place)
            case "drop":
                rows[row] = ",".join(fields[:place] + fields[place + 1 :])
            case "blank":
                rows.insert(row, " ,," * (place % 3))
            case "move":
                rows.append(rows.pop(row))
    return [header, *rows]


def is_row(line: str) -> bool:
    """Tell whether a line has any text."""
    return bool(line.strip(" ,;|\t"))

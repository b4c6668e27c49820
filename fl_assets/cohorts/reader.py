"""Reading an upload into raw rows, so that every line is accounted for."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator
from typing import BinaryIO

import pandas as pd

from fl_assets.cohorts.delimited import (
    DELIMITERS,
    LINE,
    PROBLEM,
    TEXT,
    Delimited,
    Quick,
    QuotingError,
    T,
    TruncatedFileError,
    parse_block,
)
from fl_assets.cohorts.formats import (
    DamagedFileError,
    EncodingError,
    LineError,
    NotTextError,
    ParquetUpload,
    TextUpload,
    open_upload,
)
from fl_assets.cohorts.layout import HeaderError, check_header, find_layout
from fl_assets.cohorts.row_ids import RowIds
from fl_assets.cohorts.spec import CohortSpec
from fl_assets.errors import BadDataError

__all__ = [
    "DELIMITERS",
    "LINE",
    "PROBLEM",
    "TEXT",
    "DamagedFileError",
    "EmptyFileError",
    "EncodingError",
    "HeaderError",
    "LineError",
    "NotTextError",
    "QuotingError",
    "TruncatedFileError",
    "read_batches",
    "read_quickly",
    "read_rows",
]


class EmptyFileError(BadDataError):
    """A file without a single data row."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} holds no data row: send the file again, with its rows")


def read_rows(
    data: bytes, spec: CohortSpec, name: str, optional: Collection[str] = ()
) -> pd.DataFrame:
    """Read a whole file into raw rows.

    Args:
        data: the file's bytes.
        spec, name, optional: as of :func:`read_batches`.

    Returns:
        All batches of :func:`read_batches` as one frame.

    Raises:
        BadDataError: as :func:`read_batches`.
    """
    batches = read_batches(io.BytesIO(data), spec, name, optional=optional)
    return pd.concat(batches, ignore_index=True)


def read_batches(
    stream: BinaryIO,
    spec: CohortSpec,
    name: str,
    rows: int = 50_000,
    optional: Collection[str] = (),
) -> Iterator[pd.DataFrame]:
    """Read an upload into raw rows, batch by batch, in bounded memory.

    The kind of file is found by its content, see :mod:`fl_assets.cohorts.formats`. The delimiter of
    text (comma, semicolon, tab or bar) is the one that splits the header into the most columns of
    the cohort; without a header, most lines into the right number of fields. A row with another
    number of fields, as a second delimiter leaves it, is kept and marked; nothing is dropped but
    lines without text. Messages never quote a row.

    An error may come after some batches: nothing of a file counts before the iterator has ended.

    Args:
        stream: the file, seekable.
        spec: the cohort. A header must name its file columns, in any order.
        name: of the file, for messages.
        rows: of every batch but the last.
        optional: columns that may be left out.

    Yields:
        One row per data row: the line where it starts in ``_line`` (in a Parquet file its number),
        what is wrong with its shape in ``_problem`` (None if nothing), its text in ``_text`` (None
        unless the shape is wrong), and those of ``spec.file_columns`` that the file has as stripped
        text (None in a row of the wrong shape). In a cohort without ids ``spec.key_column`` stands
        before them.

    Raises:
        EmptyFileError: no data row.
        NotTextError: a spreadsheet or an archive.
        EncodingError: no text in an encoding that can be told.
        DamagedFileError: gzip or Parquet that does not unpack.
        LineError: a line too long for a table.
        TruncatedFileError: the file ends inside a row or a quoted field.
        QuotingError: a quote where none may stand.
        HeaderError: columns missing, unknown or named twice.
        fl_assets.cohorts.parquet.NotFlatError: a Parquet column of lists, structures or bytes.
    """
    upload = open_upload(stream, name)
    if isinstance(upload, ParquetUpload):
        pieces = _parquet_pieces(upload, spec, name, rows, optional)
    else:
        pieces = _text_pieces(upload, spec, name, optional, parse_block)
    ids = RowIds(spec) if spec.id_column is None else None
    empty = True
    for batch in _regrouped(pieces, rows):
        empty = False
        if ids is not None:
            batch.insert(3, spec.key_column, ids.of(batch))
        yield batch
    if empty:
        raise EmptyFileError(name)


def read_quickly(
    stream: BinaryIO, spec: CohortSpec, name: str, quick: Quick[T]
) -> Iterator[pd.DataFrame | T]:
    """Read an upload as :func:`read_batches` does, but for what ``quick`` makes of its blocks.

    It is asked where lines are what rows are made of: not in a Parquet file, and not in a cohort
    without ids, where a row's key depends on the rows before it.

    Raises:
        BadDataError: as :func:`read_batches`.
    """
    upload = open_upload(stream, name)
    if isinstance(upload, ParquetUpload) or spec.id_column is None:
        stream.seek(0)
        yield from read_batches(stream, spec, name)
        return
    empty = True
    for piece in _text_pieces(upload, spec, name, (), quick):
        empty = False
        yield piece
    if empty:
        raise EmptyFileError(name)


def _parquet_pieces(
    upload: ParquetUpload, spec: CohortSpec, name: str, rows: int, optional: Collection[str]
) -> Iterator[pd.DataFrame]:
    from fl_assets.cohorts.parquet import ParquetText

    table = ParquetText(upload.stream, name, missing=spec.missing_markers[0])
    check_header(table.columns, spec, name, optional)
    line = 1
    for texts in table.batches(rows):
        piece = pd.DataFrame({c: texts[c] for c in spec.file_columns if c in texts}, dtype=object)
        piece.insert(0, LINE, range(line, line + len(piece)))
        piece.insert(1, PROBLEM, None)
        piece.insert(2, TEXT, None)
        line += len(piece)
        yield piece


def _text_pieces(
    upload: TextUpload, spec: CohortSpec, name: str, optional: Collection[str], quick: Quick[T]
) -> Iterator[pd.DataFrame | T]:
    table = Delimited(upload.blocks(), name)
    layout = find_layout(table, spec, name, optional)
    if layout is None:
        return
    if layout.named:
        table.skip_record(layout.delimiter)
    columns = [column for column in spec.file_columns if column in layout.columns]
    for piece in table.pieces(layout.delimiter, layout.columns, quick):
        if isinstance(piece, pd.DataFrame):
            piece = piece[[LINE, PROBLEM, TEXT, *columns]]
        yield piece


def _regrouped(pieces: Iterator[pd.DataFrame], rows: int) -> Iterator[pd.DataFrame]:
    """Yield the same rows in frames of ``rows`` rows, but the last."""
    held: list[pd.DataFrame] = []
    count = 0
    for piece in pieces:
        held.append(piece)
        count += len(piece)
        while count >= rows:
            joined = pd.concat(held, ignore_index=True)
            yield joined[:rows].copy()
            held, count = [joined[rows:]], count - rows
    if count:
        yield pd.concat(held, ignore_index=True)

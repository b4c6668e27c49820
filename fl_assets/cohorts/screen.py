"""The fast path of the contract: rows that plainly fit, told by the distinct texts of a column.

It is no second contract. What it accepts, :func:`fl_assets.cohorts.contract.judge_rows` would
accept with the same values, and whatever it is not sure of goes there.
"""

from __future__ import annotations

import io
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv

from fl_assets.cohorts.contract import REASON, judge_rows
from fl_assets.cohorts.delimited import SPACES, raw_rows
from fl_assets.cohorts.meanings import CATEGORY, Bools, ColumnMeanings
from fl_assets.cohorts.reader import LINE, PROBLEM, TEXT, read_quickly
from fl_assets.cohorts.spec import CategoryColumn, CohortSpec, NumberColumn

_THREADS = 2
_BATCH = 250_000


@dataclass(frozen=True)
class Batch:
    """Checked rows of an upload.

    Attributes:
        fit: rows that fit, in the order of the file; see :func:`typed_schema`.
        quarantine: rows that do not, as of :func:`fl_assets.cohorts.contract.judge_rows`.
    """

    fit: pa.Table
    quarantine: pd.DataFrame


def typed_schema(spec: CohortSpec) -> pa.Schema:
    """Return the schema of rows that fit: ``_line``, then ``spec.frame_columns``.

    Categories are dictionary-coded with the cohort's list, whatever of it occurs. A missing value
    is null.
    """
    types = {spec.key_column: pa.string(), spec.label.column: pa.int8()}
    for column in spec.columns:
        if isinstance(column, CategoryColumn):
            types[column.name] = CATEGORY
        elif isinstance(column, NumberColumn) or column.nullable:
            types[column.name] = pa.float64()
        else:
            types[column.name] = pa.int8()
    return pa.schema([(LINE, pa.int64()), *((name, types[name]) for name in spec.frame_columns)])


def checked_batches(stream: BinaryIO, spec: CohortSpec, name: str) -> Iterator[Batch]:
    """Read and check an upload in bounded memory, some hundred thousand rows at a time.

    Nothing of a file counts before the iterator has ended.

    Args:
        stream: the file, seekable.
        spec: the cohort.
        name: of the file, for messages.

    Raises:
        BadDataError: as :func:`fl_assets.cohorts.reader.read_batches`.
    """
    held: list[_Screened] = []
    for screened in _screened(stream, Screen(spec, name)):
        held.append(screened)
        # The contract takes a while to set up, so it is asked for many rows at once.
        if sum(len(each.fit) + len(each.rest) for each in held) >= _BATCH:
            yield _judged(held, spec)
            held = []
    if held:
        yield _judged(held, spec)


@dataclass(frozen=True)
class _Screened:
    """Rows that plainly fit, and the raw rows that may or may not."""

    fit: pa.Table
    rest: pd.DataFrame


def _screened(stream: BinaryIO, screen: Screen) -> Iterator[_Screened]:
    """Screen the pieces of a file in threads; yield them in their order."""
    with ThreadPoolExecutor(_THREADS) as pool:
        waiting: deque[Future[_Screened]] = deque()

        def start(
            block: str, delimiter: str, header: Sequence[str], line: int
        ) -> Future[_Screened] | None:
            plain = _plain(block, delimiter)
            if plain is None:
                return None
            return pool.submit(screen.block, plain, delimiter, header, line)

        for piece in read_quickly(stream, screen.spec, screen.name, start):
            if isinstance(piece, pd.DataFrame):
                piece = pool.submit(screen.frame, piece)
            waiting.append(piece)
            if len(waiting) > 2 * _THREADS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _plain(block: str, delimiter: str) -> str | None:
    """Return a block in which every line is a row and no quote is left, None if it is not so."""
    if not block.endswith("\n") or block.count("\r") != block.count("\r\n"):
        return None
    if '"' in block:
        # Quotes around a whole field that needs none. If all quotes are such, none was misread.
        end = re.escape(delimiter) + "\r\n"
        block = re.sub(rf'(?<![^{end}])"([^"{end}]*)"(?=[{end}])', r"\1", block)
    return None if '"' in block else block


class Screen:
    """Tells which rows plainly fit.

    Args:
        spec: the cohort.
        name: of the file, for messages.
    """

    def __init__(self, spec: CohortSpec, name: str) -> None:
        self.spec, self.name = spec, name
        self._schema = typed_schema(spec)
        self._key = spec.coding(spec.key_column)
        self._meanings = {column: ColumnMeanings(spec, column) for column in spec.frame_columns[1:]}

    def block(self, block: str, delimiter: str, header: Sequence[str], line: int) -> _Screened:
        """Screen a block in which every line is a row; ``line`` is the number of the first."""
        ragged: list[int] = []

        def leave_out(row: csv.InvalidRow) -> str:
            ragged.append(row.number - 1)
            return "skip"

        data = block.encode()
        coded = pa.dictionary(pa.int32(), pa.string())
        kinds = {c: pa.string() if c == self.spec.key_column else coded for c in header}
        table = csv.read_csv(
            io.BytesIO(data),
            csv.ReadOptions(column_names=list(header), use_threads=False, block_size=len(data) + 1),
            csv.ParseOptions(
                delimiter=delimiter,
                quote_char=False,
                ignore_empty_lines=False,
                invalid_row_handler=leave_out,
            ),
            csv.ConvertOptions(column_types=kinds, strings_can_be_null=False),
        )
        places = np.delete(np.arange(len(table) + len(ragged)), ragged)
        columns = {c: table[c].combine_chunks() for c in self.spec.frame_columns}
        fit, fits = self._fit(columns, places + line)
        doubtful = sorted([*ragged, *places[~fits].tolist()])
        texts = block.split("\n") if doubtful else []
        lines = ((line + i, texts[i].removesuffix("\r")) for i in doubtful)
        rest = raw_rows(lines, delimiter, header, self.name)
        return _Screened(fit, rest[[LINE, PROBLEM, TEXT, *self.spec.file_columns]])

    def frame(self, raw: pd.DataFrame) -> _Screened:
        """Screen raw rows as :func:`fl_assets.cohorts.reader.read_batches` yields them."""
        whole = raw[raw[PROBLEM].isna()]
        columns = {c: pa.array(whole[c], pa.string()) for c in self.spec.frame_columns}
        for name in self._meanings:
            columns[name] = columns[name].dictionary_encode()
        fit, fits = self._fit(columns, whole[LINE].to_numpy())
        return _Screened(fit, raw.drop(index=whole.index[fits]))

    def _fit(
        self, columns: Mapping[str, pa.Array], lines: NDArray[np.int64]
    ) -> tuple[pa.Table, Bools]:
        """Return the rows that fit, and which these are."""
        key = pc.utf8_trim(columns[self.spec.key_column], characters=SPACES)
        fits = ~self._key_missing(key)
        typed = [pa.array(lines), key]
        for name, meanings in self._meanings.items():
            values, fitting = meanings.apply(columns[name])
            typed.append(values)
            fits &= fitting
        return pa.Table.from_arrays(typed, schema=self._schema).filter(pa.array(fits)), fits

    def _key_missing(self, keys: pa.StringArray) -> Bools:
        if any(map(str.isdigit, "".join(self._key.missing))):
            # Many spellings of a number may be the marker.
            return np.array([self._key.canonical(k) is None for k in keys.to_pylist()], bool)
        markers = pa.array(sorted(self._key.missing), pa.string())
        missing: Bools = pc.is_in(keys, markers).to_numpy(zero_copy_only=False)
        return missing


def _judged(screened: Sequence[_Screened], spec: CohortSpec) -> Batch:
    """Have the contract judge what the screen left."""
    fit = pa.concat_tables([each.fit for each in screened])
    left = [each.rest for each in screened if len(each.rest)]
    if not left:
        return Batch(fit, screened[0].rest.assign(**{REASON: pd.Series(dtype=object)}))
    raw = pd.concat(left, ignore_index=True)
    more, quarantine = judge_rows(raw, spec)
    if len(more):
        more.insert(0, LINE, raw[LINE])
        fit = pa.concat_tables([fit, _typed_table(more, spec)]).sort_by(LINE)
    return Batch(fit, quarantine)


def _typed_table(frame: pd.DataFrame, spec: CohortSpec) -> pa.Table:
    """Return typed rows of the contract, with ``_line``, in the schema of the screen."""
    columns = {}
    for field in typed_schema(spec):
        values = frame[field.name]
        if field.type == CATEGORY:
            categories = ColumnMeanings(spec, field.name).categories
            codes = pd.Categorical(values, categories).codes.astype(np.int32)
            columns[field.name] = pa.DictionaryArray.from_arrays(
                pa.array(codes, mask=codes < 0), pa.array(categories)
            )
        else:
            columns[field.name] = pa.array(values, field.type, from_pandas=True)
    return pa.table(columns, typed_schema(spec))

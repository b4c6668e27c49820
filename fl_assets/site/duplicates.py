"""Rows with an id that a later row has, too: the latest of an id counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from itertools import groupby
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fl_assets.cohorts.reader import LINE
from fl_assets.cohorts.spec import CohortSpec
from fl_assets.site.rows import RowWriter
from fl_assets.site.runs import SortedRuns
from fl_assets.site.upload_rows import UPLOAD, aside_key, stored_schema
from fl_assets.storage import ObjectInfo, SiteStore

Bools = NDArray[np.bool_]

_PLACE = "_place"
_DIGITS = 19  # of the largest line number


def told_apart(rows: pa.Table, key: str) -> tuple[pa.Table, pa.Table]:
    """Tell rows that a later one of the same upload replaced from the others.

    Args:
        rows: sorted by key, then in the order of arrival.
        key: the id column.

    Returns:
        The duplicates, the others.
    """
    double = _same_as_next(rows[key]) & _same_as_next(rows[UPLOAD])
    return _filtered(rows, double), _filtered(rows, ~double)


def latest(rows: pa.Table, key: str) -> pa.Table:
    """Return the last row of every key; rows as of :func:`told_apart`."""
    return _filtered(rows, ~_same_as_next(rows[key]))


def without(rows: pa.Table, uploads: Collection[int]) -> pa.Table:
    """Return the rows that are of none of these uploads."""
    if not uploads:
        return rows
    return rows.filter(pc.invert(pc.is_in(rows[UPLOAD], pa.array(uploads, pa.int32()))))


class Duplicates:
    """Rows that a later one of the same upload replaced, in bounded memory.

    Rows that a later upload replaced are only counted, by the caller: they are in its file.

    Args:
        store: the hospital's.
        spec: the cohort.
        infos: the uploads, in the order of arrival.

    Attributes:
        counts: how many there are, by number of the upload.
    """

    def __init__(self, store: SiteStore, spec: CohortSpec, infos: Sequence[ObjectInfo]) -> None:
        self._store, self._key, self._infos = store, spec.key_column, infos
        self._schema = stored_schema(spec).insert(0, pa.field(LINE, pa.int64()))
        self._runs = SortedRuns(_PLACE)
        self.counts: Counter[int] = Counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._runs.__exit__(kind, error, trace)

    def take_out(self, rows: pa.Table) -> pa.Table:
        """Keep the duplicates among rows and return the others; rows as of :func:`told_apart`."""
        double, others = told_apart(rows, self._key)
        self.add(double)
        return others

    def add(self, rows: pa.Table) -> None:
        """Keep rows that are duplicates."""
        for found in pc.value_counts(rows[UPLOAD]).to_pylist():
            self.counts[found["values"]] += found["counts"]
        digits = [
            pc.utf8_lpad(rows[column].cast(pa.string()), _DIGITS, "0") for column in (UPLOAD, LINE)
        ]
        self._runs.add(rows.append_column(_PLACE, pc.binary_join_element_wise(*digits, "")))

    def store(self, refused: Collection[int]) -> None:
        """Store them beside the quarantine of their uploads, in the order of the lines.

        Args:
            refused: uploads none of whose rows count.
        """
        for number in refused:
            del self.counts[number]
        tables = (without(rows, refused) for rows in self._runs.merge())
        for number, pieces in groupby(_by_upload(tables), key=lambda piece: piece[0]):
            with RowWriter(self._store, self._schema) as writer:
                for _, rows in pieces:
                    writer.write(rows.select(self._schema.names))
                writer.store(aside_key(self._infos[number].key, "duplicates"))


def _by_upload(tables: Iterator[pa.Table]) -> Iterator[tuple[int, pa.Table]]:
    """Cut tables, sorted by upload, where the next upload begins."""
    for rows in tables:
        for number in pc.unique(rows[UPLOAD]).to_pylist():
            yield number, rows.filter(pc.equal(rows[UPLOAD], number))


def _filtered(rows: pa.Table, kept: Bools) -> pa.Table:
    # A copy of all columns costs more than the look.
    return rows if kept.all() else rows.filter(pa.array(kept))


def _same_as_next(column: pa.ChunkedArray) -> Bools:
    """Tell of every value whether the next one is equal; of the last that it is not."""
    values = column.combine_chunks()
    same = pc.equal(values[:-1], values[1:]).to_numpy(zero_copy_only=False)
    return np.append(same, False)[: len(values)].astype(bool)

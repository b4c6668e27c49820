"""Sorting more rows than memory holds: sorted runs in temporary files, merged again."""

from __future__ import annotations

import tempfile
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc

RUN = 1_000_000
"""Rows that are sorted in memory."""

BATCH = 65_536
"""Rows of a run that are read at once."""


class SortedRuns:
    """Rows sorted by a text column in bounded memory: external merge sort (Knuth 1998, TAOCP vol.
    3, section 5.4).

    The sort is stable, and texts are in the order of their code points. Up to ``run`` rows never
    touch a disk. Runs are kept in files without a name, which vanish with the process however it
    ends.

    Args:
        key: the text column.
        reduce: called with every sorted run; the rows that it returns are kept.
        run: rows that are sorted in memory.
    """

    def __init__(
        self, key: str, reduce: Callable[[pa.Table], pa.Table] | None = None, run: int = RUN
    ) -> None:
        self._key, self._reduce, self._run = key, reduce, run
        self._waiting: list[pa.Table] = []
        self._spilled: list[pa.ipc.RecordBatchStreamReader] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def add(self, rows: pa.Table) -> None:
        """Add rows after those that are there."""
        if not len(rows):
            return
        self._waiting.append(rows)
        if sum(map(len, self._waiting)) >= self._run:
            self._spill(self._take_run())

    def merge(self) -> Iterator[pa.Table]:
        """Yield all rows in order, once; rows of one key are never in two tables."""
        runs: list[Iterator[pa.Table]] = [map(_table, reader) for reader in self._spilled]
        if self._waiting:
            runs.append(_batches(self._take_run()))
        for pieces in merged(runs, self._key):
            # Pieces are in the order of the runs, so that equal keys stay in theirs.
            yield pieces[0] if len(pieces) == 1 else self._sorted(pa.concat_tables(pieces))

    def _take_run(self) -> pa.Table:
        rows = self._sorted(pa.concat_tables(self._waiting))
        self._waiting = []
        return self._reduce(rows) if self._reduce else rows

    def _sorted(self, rows: pa.Table) -> pa.Table:
        rows = rows.combine_chunks()
        return rows.take(pc.sort_indices(rows[self._key]))

    def _spill(self, rows: pa.Table) -> None:
        file = self._stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        with pa.ipc.new_stream(file, rows.schema) as writer:
            writer.write_table(rows, max_chunksize=BATCH)
        file.seek(0)
        self._spilled.append(self._stack.enter_context(pa.ipc.open_stream(file)))


def merged(runs: Sequence[Iterator[pa.Table]], key: str) -> Iterator[list[pa.Table]]:
    """Yield, range of keys by range of keys, the rows of sorted runs that lie in it.

    Args:
        runs: the tables of each run, sorted by ``key`` within and from table to table.
        key: a text column.

    Yields:
        The tables with rows of the next range, in the order of the runs.
    """
    first = enumerate(map(_next, runs))
    held = {place: table for place, table in first if table is not None}
    while held:
        # No run can still have a key in this range once its table's last key lies beyond it.
        upper = min(_last(table[key]) for table in held.values())
        pieces = []
        for place in sorted(held):
            table: pa.Table | None = held.pop(place)
            while table is not None and _last(table[key]) <= upper:
                pieces.append(table)
                table = _next(runs[place])
            if table is not None:
                cut = bisect_right(_Texts(table[key]), upper)
                pieces.append(table.slice(0, cut))
                held[place] = table.slice(cut)
        yield [piece for piece in pieces if len(piece)]


class _Texts(Sequence[str]):
    """A column as texts, made one by one when asked for."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, place: Any) -> Any:
        return self._column[place].as_py()


def _last(keys: pa.ChunkedArray) -> str:
    text: str = keys[len(keys) - 1].as_py()
    return text


def _next(run: Iterator[pa.Table]) -> pa.Table | None:
    return next((table for table in run if len(table)), None)


def _table(batch: pa.RecordBatch) -> pa.Table:
    return pa.Table.from_batches([batch])


def _batches(rows: pa.Table) -> Iterator[pa.Table]:
    return (rows.slice(start, BATCH) for start in range(0, len(rows), BATCH))

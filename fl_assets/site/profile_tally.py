"""Everything a profile is made of, added up over tables of rows."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fl_assets.cohorts.spec import CohortSpec, NumberColumn
from fl_assets.learning.features import Moments, combine
from fl_assets.learning.inputs import Floats
from fl_assets.site.profile_sums import bin_names, unit_sums, value_names

_Counts = dict[str, int]


class Tally:
    """Counts and moments of rows, in bounded memory.

    Attributes:
        rows: number of them.
        label: rows by label.
        absent: by column, how many values are missing.
        cells: by column, rows by value or histogram bin.

    Args:
        spec: the cohort.
        units: whether to add up the bounded sums that noise is added to, too.
    """

    def __init__(self, spec: CohortSpec, *, units: bool = False) -> None:
        self._spec, self._units = spec, units
        self.rows = 0
        self.label: _Counts = {"0": 0, "1": 0}
        self.absent = dict.fromkeys(spec.column_names, 0)
        self.cells: dict[str, _Counts] = {
            column.name: dict.fromkeys(
                bin_names(column) if isinstance(column, NumberColumn) else value_names(column), 0
            )
            for column in spec.columns
        }
        self._moments: dict[str, list[Moments]] = {column.name: [] for column in spec.numbers}
        self._unit_sums: dict[str, Floats] = {c.name: np.zeros(2) for c in spec.numbers}

    @classmethod
    def of(cls, tables: Iterable[pa.Table], spec: CohortSpec, *, units: bool = False) -> Tally:
        """Add up typed rows, table by table."""
        tally = cls(spec, units=units)
        for table in tables:
            tally._add(table)
        return tally

    def moments(self, column: NumberColumn) -> Moments | None:
        """Return the moments of a column, None where no value is present."""
        return combine(self._moments[column.name])

    def unit_sums(self, column: NumberColumn) -> Floats:
        """Return the sums of :func:`fl_assets.site.profile_sums.unit_sums`, [2]."""
        return self._unit_sums[column.name]

    def _add(self, table: pa.Table) -> None:
        self.rows += len(table)
        _count(table[self._spec.label.column], self.label)
        for column in self._spec.columns:
            values = table[column.name]
            self.absent[column.name] += values.null_count
            if isinstance(column, NumberColumn):
                self._add_numbers(values.drop_null().to_numpy(), column)
            else:
                _count(values, self.cells[column.name])

    def _add_numbers(self, values: Floats, column: NumberColumn) -> None:
        found, _ = np.histogram(values, bins=np.asarray(column.bins))
        cells = self.cells[column.name]
        for name, count in zip(cells, found.tolist(), strict=True):
            cells[name] += count
        self._moments[column.name].append(Moments.of(values, column.public.center))
        if self._units:
            self._unit_sums[column.name] += unit_sums(values, column)


def _count(values: pa.ChunkedArray, cells: _Counts) -> None:
    for found in pc.value_counts(values.drop_null()).to_pylist():
        value = found["values"]
        name = value if isinstance(value, str) else f"{value:g}"
        if name in cells:
            cells[name] += found["counts"]

"""A profile as one vector of counts and bounded sums, to which noise can be added."""

from __future__ import annotations

import itertools
import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fl_assets.cohorts.spec import CategoryColumn, CohortSpec, FlagColumn, NumberColumn
from fl_assets.learning.features import Moments

Table = tuple[Literal["label", "missing", "histograms", "counts"], str]
"""Field of the profile and column."""


def bin_names(column: NumberColumn) -> list[str]:
    """Return the names of a column's histogram cells."""
    return [f"{low:.12g} to {high:.12g}" for low, high in itertools.pairwise(column.bins)]


def value_names(column: CategoryColumn | FlagColumn) -> list[str]:
    """Return the names of the cells of a column that holds no numbers."""
    return list(column.categories) if isinstance(column, CategoryColumn) else ["0", "1"]


def counted(spec: CohortSpec) -> dict[Table, list[str]]:
    """Return the cells of every table in the order of the vector.

    Of a nullable column only the missing values are counted: those present are the rest of the
    rows, whose number is public.
    """
    tables: dict[Table, list[str]] = {("label", spec.label.column): ["0", "1"]}
    for column in spec.columns:
        if column.nullable:
            tables["missing", column.name] = ["missing"]
        if isinstance(column, NumberColumn):
            tables["histograms", column.name] = bin_names(column)
        else:
            tables["counts", column.name] = value_names(column)
    return tables


def sensitivity(spec: CohortSpec) -> float:
    """Return the most that adding or removing one patient moves the vector, in L2 norm.

    A patient moves one cell of the label by 1. Of a number column they move one cell of the
    histogram by 1, the sum and the sum of squares by at most 1 each; without a value only the cell
    of the missing ones. Of any other column they move one cell by 1, that of their value or that
    of the missing ones. So k = 1 + 3 per number column + 1 per other column coordinates move by at
    most 1, which is at most the root of k, and just that for a patient at the end of every range.
    """
    numbers = len(spec.numbers)
    return math.sqrt(1 + 3 * numbers + (len(spec.columns) - numbers))


def unit_sums(values: NDArray[np.float64], column: NumberColumn) -> tuple[float, float]:
    """Return the sum and the sum of squares of values, each in -1 to 1.

    Values are clipped to the column's public range and taken from its public centre, in units of
    the farther end of the range: without bounds one patient could move the sums by any amount.
    """
    public = column.public
    units = (np.clip(values, public.low, public.high) - public.center) / _unit(column)
    return math.fsum(units), math.fsum(units * units)


def moments_of(
    count: int, total: float, squares: float, column: NumberColumn, deviation: float
) -> Moments | None:
    """Return moments from noised unit sums.

    Args:
        count: values present.
        total, squares: of :func:`unit_sums`, with noise.
        column: whose.
        deviation: standard deviation of the noise.

    Returns:
        None where the noise is all there is: fewer values than its standard deviation, or no
        variance left.
    """
    unit, squares = _unit(column), min(squares, count)
    if count < max(deviation, 1.0) or squares <= total**2 / count:
        return None
    return Moments(
        count=count,
        origin=column.public.center,
        total=total * unit,
        total_squares=squares * unit**2,
    )


def _unit(column: NumberColumn) -> float:
    public = column.public
    return max(public.high - public.center, public.center - public.low)

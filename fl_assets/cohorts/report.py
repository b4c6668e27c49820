"""The data report of a validated cohort: what is in it, as aggregates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fl_assets.cohorts.spec import CategoryColumn, CohortSpec, NumberColumn
from fl_assets.config import StrictModel
from fl_assets.errors import BadDataError

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class ReportColumnsError(BadDataError):
    """The frame lacks columns of the cohort."""

    def __init__(self, missing: list[str], cohort: str) -> None:
        super().__init__(
            f"cannot report on cohort {cohort}: no column {', '.join(missing)}; pass rows that "
            "went through its contract"
        )


class NumberSummary(StrictModel):
    """One number column; statistics are of the values that are present, in ``unit``.

    There is no minimum or maximum: each would be the value of one patient.

    Attributes:
        unit: for people.
        count: values present.
        mean, sd: ``None`` with no value, sd (n - 1 in the denominator) also with a single one.
        quantiles: by name (``"0.05"``), linearly interpolated; empty with no value.
        edges: of the histogram, the spec's bins; the last one belongs to its bin.
        histogram: values per bin.
        outside_bins: values in no bin.
        below, above: outliers, values beyond the public clip range, which scaling will clip.
    """

    unit: str
    count: int
    mean: float | None
    sd: float | None
    quantiles: dict[str, float]
    edges: list[float]
    histogram: list[int]
    outside_bins: int
    below: int
    above: int


class DataReport(StrictModel):
    """A cohort as aggregates. JSON in both directions.

    Exact counts without a disclosure floor: for the eyes of whoever may see the rows. What a
    hospital tells others is its profile, :mod:`fl_assets.site.profile`.

    Attributes:
        cohort: the spec's name.
        rows, positives: all, and those with label 1.
        label_rate: positives over rows; ``None`` without rows.
        negatives_per_positive: the imbalance; ``None`` without positives.
        missing: share of rows without a value, per column; 0 without rows.
        numbers: per number column.
        categories: rows per category, zeros included, of category columns; of flags, ``"0"`` and
            ``"1"``.
        correlated: names of the rows and columns of ``correlation``: numbers, flags, the label.
        correlation: Pearson, each over the rows where both are present; ``None`` where one of them
            does not vary.
    """

    cohort: str
    rows: int
    positives: int
    label_rate: float | None
    negatives_per_positive: float | None
    missing: dict[str, float]
    numbers: dict[str, NumberSummary]
    categories: dict[str, dict[str, int]]
    correlated: list[str]
    correlation: list[list[float | None]]


def data_report(frame: pd.DataFrame, spec: CohortSpec) -> DataReport:
    """Summarise typed rows (see :func:`fl_assets.cohorts.contract.check_rows`).

    Raises:
        ReportColumnsError: a column of the spec is not there.
    """
    absent = [n for n in (*spec.column_names, spec.label.column) if n not in frame.columns]
    if absent:
        raise ReportColumnsError(absent, spec.name)
    rows = len(frame)
    positives = int((frame[spec.label.column] == 1).sum())
    correlated = [c.name for c in spec.columns if not isinstance(c, CategoryColumn)]
    correlated = sorted(correlated, key=lambda name: name not in {c.name for c in spec.numbers})
    correlated.append(spec.label.column)
    return DataReport(
        cohort=spec.name,
        rows=rows,
        positives=positives,
        label_rate=positives / rows if rows else None,
        negatives_per_positive=(rows - positives) / positives if positives else None,
        missing={n: float(frame[n].isna().sum()) / max(rows, 1) for n in spec.column_names},
        numbers={c.name: _number(frame[c.name].dropna().to_numpy(float), c) for c in spec.numbers},
        categories=_categories(frame, spec),
        correlated=correlated,
        correlation=_correlation(frame[correlated]),
    )


def _number(values: Floats, column: NumberColumn) -> NumberSummary:
    n = values.size
    histogram = np.histogram(values, np.asarray(column.bins))[0].tolist()
    cuts = np.quantile(values, QUANTILES).tolist() if n else []
    return NumberSummary(
        unit=column.unit,
        count=n,
        mean=float(values.mean()) if n else None,
        sd=float(values.std(ddof=1)) if n > 1 else None,
        quantiles={f"{q:g}": float(cut) for q, cut in zip(QUANTILES, cuts, strict=False)},
        edges=list(column.bins),
        histogram=histogram,
        outside_bins=n - sum(histogram),
        below=int(np.count_nonzero(values < column.public.low)),
        above=int(np.count_nonzero(values > column.public.high)),
    )


def _categories(frame: pd.DataFrame, spec: CohortSpec) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for column in spec.columns:
        values = frame[column.name]
        if isinstance(column, CategoryColumn):
            counts[column.name] = {name: int((values == name).sum()) for name in column.categories}
        elif not isinstance(column, NumberColumn):
            counts[column.name] = {str(flag): int((values == flag).sum()) for flag in (0, 1)}
    return counts


def _correlation(numeric: pd.DataFrame) -> list[list[float | None]]:
    matrix: npt.NDArray[Any] = numeric.astype(float).corr(min_periods=2).to_numpy()
    return [[None if np.isnan(value) else float(value) for value in row] for row in matrix]

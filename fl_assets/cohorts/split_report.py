"""The self-check of a split: what each simulated hospital got, and whether every row got there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fl_assets.cohorts.spec import CohortSpec
from fl_assets.config import StrictModel


class HospitalShare(StrictModel):
    """What one hospital got.

    Attributes:
        hospital: name.
        rows, positives: counts.
        label_rate: ``positives / rows``; None without rows.
        mean_age: over known ages; None without any.
        distance: per feature column the Jensen-Shannon distance (base 2: 0 same, 1 disjoint) of its
            distribution here from the pooled one; empty without rows.
    """

    hospital: str
    rows: int
    positives: int
    label_rate: float | None
    mean_age: float | None
    distance: dict[str, float]


class SplitReport(StrictModel):
    """The self-check of a split.

    Attributes:
        hospitals: one entry per hospital.
        problems: what is wrong, in plain words; empty when every row was dealt exactly once and
            every hospital got some.
    """

    hospitals: tuple[HospitalShare, ...]
    problems: list[str]


def report_split(
    frame: pd.DataFrame, parts: Mapping[str, pd.DataFrame], spec: CohortSpec
) -> SplitReport:
    """Compare the parts that were dealt with the frame they came from.

    Args:
        frame: all rows, typed.
        parts: the rows of each hospital, by its name.
        spec: the cohort.
    """
    pooled = {name: _cells(frame, name, spec) for name in spec.column_names}
    return SplitReport(
        hospitals=tuple(_share(name, part, pooled, spec) for name, part in parts.items()),
        problems=_problems(frame, parts, spec.key_column),
    )


def jensen_shannon(p: NDArray[Any], q: NDArray[Any]) -> float:
    """Return the Jensen-Shannon distance of two histograms over the same cells.

    The square root of the divergence of Lin 1991 (IEEE Trans. Inf. Theory 37:145, section III) in
    bits: 0 for equal distributions, 1 for disjoint ones.

    Args:
        p, q: counts or weights, ``[cells]``, not all zero.
    """
    p, q = p / p.sum(), q / q.sum()
    middle = (p + q) / 2
    divergence = (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2
    return float(np.sqrt(max(divergence, 0.0)))  # rounding may leave -1e-17


def _relative_entropy(p: NDArray[Any], q: NDArray[Any]) -> float:
    seen = p > 0
    return float(np.sum(p[seen] * np.log2(p[seen] / q[seen])))


def _share(
    name: str, part: pd.DataFrame, pooled: Mapping[str, NDArray[Any]], spec: CohortSpec
) -> HospitalShare:
    rows, positives = len(part), int(part[spec.label.column].sum())
    mean_age = part[spec.age_column].mean()
    return HospitalShare(
        hospital=name,
        rows=rows,
        positives=positives,
        label_rate=positives / rows if rows else None,
        mean_age=None if np.isnan(mean_age) else float(mean_age),
        distance={
            column: jensen_shannon(_cells(part, column, spec), cells)
            for column, cells in pooled.items()
            if rows
        },
    )


def _cells(frame: pd.DataFrame, name: str, spec: CohortSpec) -> NDArray[Any]:
    """Count the rows per bin, category or flag value, the missing ones in a last cell."""
    values, column = frame[name], spec.column(name)
    known = values.dropna()
    if column.kind == "number":
        bins = column.bins
        counts, _ = np.histogram(known.clip(bins[0], bins[-1]), bins)
    else:
        allowed = column.categories if column.kind == "category" else (0, 1)
        counts = known.value_counts().reindex(list(allowed), fill_value=0).to_numpy()
    return np.append(counts, len(values) - len(known))


def _problems(frame: pd.DataFrame, parts: Mapping[str, pd.DataFrame], key: str) -> list[str]:
    problems = []
    repeated = int(frame[key].duplicated().sum())
    if repeated:
        problems.append(f"{repeated} rows repeat an id of the data set: ids must be unique")
    dealt = pd.concat([part[key] for part in parts.values()])
    times = dealt.value_counts().reindex(frame[key].unique(), fill_value=0)
    if doubled := int((times > 1).sum()):
        problems.append(f"{doubled} ids were dealt more than once")
    if lost := int((times == 0).sum()):
        problems.append(f"{lost} ids were dealt to no hospital")
    if strange := int((~dealt.isin(frame[key])).sum()):
        problems.append(f"{strange} dealt rows are not in the data set")
    if len(dealt) != len(frame):
        problems.append(f"{len(dealt)} rows were dealt out of {len(frame)}")
    empty = [name for name, part in parts.items() if not len(part)]
    if empty:
        problems.append(f"no rows for {', '.join(empty)}: use more rows or fewer hospitals")
    return problems

"""Two models on the same people: every metric, the difference, and its interval."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from math import sqrt
from statistics import NormalDist

import numpy as np
from pydantic import NonNegativeInt, PositiveInt

from fl_assets.config import StrictModel
from fl_assets.learning.inputs import Array, Bools, Floats, checked
from fl_assets.learning.intervals import FEWEST_RESAMPLED, Interval
from fl_assets.learning.metrics import (
    Metric,
    auprc,
    auroc,
    brier,
    confusion,
    ece,
    placements,
    sensitivity_at_specificity,
    weighted_mean,
)

LOWER_IS_BETTER = frozenset({Metric.BRIER, Metric.ECE})


@dataclass(frozen=True)
class Scored:
    """A model's scores of some people.

    Attributes:
        scores: probability of label 1, shape [n].
        threshold: its operating point, chosen on other people.
    """

    scores: Floats
    threshold: float


class PairedMetric(StrictModel):
    """One metric of two models on the same people.

    Attributes:
        a, b: of each model, None where the metric does not exist.
        difference: b - a.
        standard_error, low, high: of the difference, with its 95 % interval; None where there are
            too few people of a class to tell.
        hospitals: how many a mean is over; None where it is none.
    """

    a: float | None
    b: float | None
    difference: float | None = None
    standard_error: float | None = None
    low: float | None = None
    high: float | None = None
    hospitals: int | None = None

    @property
    def distinguishable(self) -> bool:
        """Whether the interval of the difference excludes zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


class PairedEvaluation(StrictModel):
    """Two models on one set of people; aggregates only.

    Attributes:
        n, positives: people, and those with label 1.
        metrics: by name.
    """

    n: PositiveInt
    positives: NonNegativeInt
    metrics: dict[Metric, PairedMetric]


def compare_pair(
    y: Array, a: Scored, b: Scored, replicates: int = 1000, seed: int = 0
) -> PairedEvaluation:
    """Compare two models on the same people.

    The AUROC's interval is :func:`delong_difference`'s; the others' are percentiles of a paired
    bootstrap in which positives and negatives are drawn among themselves, O(replicates * n log n).

    Args:
        y: 0/1, shape [n].
        a, b: the models' scores of the same people in the same order.
        replicates: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        MetricInputError: empty, mismatched, labels other than 0/1, or scores outside 0..1.
    """
    positive, _ = checked(y, a.scores)
    checked(y, b.scores)
    delong = delong_difference(y, a.scores, b.scores)
    found = {Metric.AUROC: _with(_point(_auroc, positive, a, b), *(delong or (None, None)))}
    drawn = _bootstrap(positive, a, b, replicates, seed)
    for metric, measure in _MEASURES.items():
        point = _point(measure, positive, a, b)
        gaps = drawn.get(metric)
        if gaps is None or point.difference is None:
            found[metric] = point
        else:
            low, high = np.quantile(gaps, [0.025, 0.975])
            found[metric] = _with(point, float(gaps.std(ddof=1)), (float(low), float(high)))
    return PairedEvaluation(n=positive.size, positives=int(positive.sum()), metrics=found)


def delong_difference(
    y: Array, a: Array, b: Array, level: float = 0.95
) -> tuple[float, Interval] | None:
    """Standard error and interval of AUROC(b) - AUROC(a) on the same people.

    DeLong, DeLong & Clarke-Pearson 1988, equations 4 to 6, for the contrast (-1, 1): the variance
    is that of the differences of the placement values, ``S10/m + S01/n``. The interval is
    Student's with the degrees of freedom of Welch 1947 and Satterthwaite 1946, which the normal
    one of the paper is in the limit; with 10 positives the latter is too narrow. Equal scores give
    zero and ``(0, 0)``.

    Returns:
        ``None`` with fewer than ``FEWEST_RESAMPLED`` members in a class, and where a difference
        shows no variance at all.

    Raises:
        MetricInputError: empty, mismatched, labels other than 0/1, or scores outside 0..1.
    """
    positive, first = checked(y, a)
    _, second = checked(y, b)
    m, n = int(positive.sum()), int((~positive).sum())
    if min(m, n) < FEWEST_RESAMPLED:
        return None
    ten = _placement_gaps(positive, first, second)
    one = -_placement_gaps(~positive, first, second)
    difference = float(ten.mean())
    parts = float(ten.var(ddof=1)) / m, float(one.var(ddof=1)) / n
    variance = sum(parts)
    if not variance:
        return None if difference else (0.0, (0.0, 0.0))
    # scipy.stats takes half a second to import.
    from scipy.stats import t

    freedom = variance**2 / (parts[0] ** 2 / (m - 1) + parts[1] ** 2 / (n - 1))
    error = sqrt(variance)
    reach = float(t.ppf((1 + level) / 2, freedom)) * error
    return error, (max(difference - reach, -1.0), min(difference + reach, 1.0))


def combine(evaluations: Iterable[PairedEvaluation]) -> PairedEvaluation | None:
    """Average over hospitals, weighted by people, from their aggregates alone.

    A hospital counts for a metric where its difference has a standard error. Hospitals are
    independent, so the mean's variance is the sum of ``weight^2 * standard_error^2``; the interval
    is the normal one. A single hospital degenerates to its own difference.

    Returns:
        None if there is no hospital.
    """
    found = list(evaluations)
    if not found:
        return None
    return PairedEvaluation(
        n=sum(e.n for e in found),
        positives=sum(e.positives for e in found),
        metrics={
            metric: _mean([(e.metrics[metric], e.n) for e in found])
            for metric in (Metric.AUROC, *_MEASURES)
        },
    )


def _mean(parts: list[tuple[PairedMetric, int]]) -> PairedMetric:
    known = [(part, n) for part, n in parts if part.standard_error is not None]
    total = sum(n for _, n in known)
    a = weighted_mean([(part.a, n) for part, n in known])
    b = weighted_mean([(part.b, n) for part, n in known])
    if a is None or b is None:
        return PairedMetric(a=a, b=b, hospitals=len(known))
    error = sqrt(sum((n / total * (part.standard_error or 0.0)) ** 2 for part, n in known))
    reach = NormalDist().inv_cdf(0.975) * error
    point = PairedMetric(a=a, b=b, difference=b - a, hospitals=len(known))
    return _with(point, error, (b - a - reach, b - a + reach))


Measure = Callable[[Bools, Floats, float], float | None]


def _balanced_accuracy(positive: Bools, scores: Floats, threshold: float) -> float | None:
    return confusion(positive, scores, threshold).balanced_accuracy


def _without_threshold(
    measure: Callable[[Array, Array], float | None],
    positive: Bools,
    scores: Floats,
    threshold: float,  # noqa: ARG001  (of a Measure)
) -> float | None:
    return measure(positive, scores)


_auroc: Measure = partial(_without_threshold, auroc)
_MEASURES: Mapping[Metric, Measure] = {
    Metric.AUPRC: partial(_without_threshold, auprc),
    Metric.BALANCED_ACCURACY: _balanced_accuracy,
    Metric.SENSITIVITY_AT_80_SPECIFICITY: partial(_without_threshold, sensitivity_at_specificity),
    Metric.BRIER: partial(_without_threshold, brier),
    Metric.ECE: partial(_without_threshold, ece),
}


def _point(measure: Measure, positive: Bools, a: Scored, b: Scored) -> PairedMetric:
    first, second = (measure(positive, s.scores, s.threshold) for s in (a, b))
    gap = None if first is None or second is None else second - first
    return PairedMetric(a=first, b=second, difference=gap)


def _with(point: PairedMetric, error: float | None, interval: Interval | None) -> PairedMetric:
    low, high = interval or (None, None)
    return point.model_copy(update={"standard_error": error, "low": low, "high": high})


def _placement_gaps(member: Bools, first: Floats, second: Floats) -> Floats:
    """Placement values of the members among the others by the second score minus by the first."""
    gaps: Floats = placements(second[member], second[~member]) - placements(
        first[member], first[~member]
    )
    return gaps


def _bootstrap(
    positive: Bools, a: Scored, b: Scored, replicates: int, seed: int
) -> dict[Metric, Floats]:
    """Differences of every measure over resampled people, [replicates]; none where too few."""
    above, below = np.flatnonzero(positive), np.flatnonzero(~positive)
    if min(above.size, below.size) < FEWEST_RESAMPLED:
        return {}
    rng = np.random.default_rng(seed)
    gaps: dict[Metric, list[float]] = {metric: [] for metric in _MEASURES}
    for _ in range(replicates):
        rows = np.concatenate(
            [above[rng.integers(above.size, size=above.size)],
             below[rng.integers(below.size, size=below.size)]]
        )  # fmt: skip
        drawn, first, second = positive[rows], a.scores[rows], b.scores[rows]
        for metric, measure in _MEASURES.items():
            values = measure(drawn, first, a.threshold), measure(drawn, second, b.threshold)
            # Both classes are in every draw, so every measure exists.
            gaps[metric].append((values[1] or 0.0) - (values[0] or 0.0))
    return {metric: np.array(values) for metric, values in gaps.items()}

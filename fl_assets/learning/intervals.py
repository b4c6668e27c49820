"""Intervals: of one model's AUROC and AUPRC, and of paired differences between two models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log, sqrt, tanh
from statistics import NormalDist, fmean, stdev

import numpy as np

from fl_assets.learning.inputs import (
    Array,
    Bools,
    EmptyInputError,
    Floats,
    LengthMismatchError,
    checked,
)
from fl_assets.learning.metrics import Ints, average_precision, placements, tie_ends

SMALL_CLASS = 20
"""Below this many members of a class a sample variance over them is not trusted alone: with 10
positives a 95 % interval by DeLong covers 86 to 93 %, with the larger of the two 97 to 99 %."""

FEWEST_RESAMPLED = 5
"""Fewer positives than this show no spread by being drawn again."""

BLOCK = 2**20
"""Cells of the bootstrap's largest matrix, so that memory does not grow with the replicates."""

Interval = tuple[float, float]


def delong_variance(y: Array, score: Array) -> float | None:
    """Variance of the AUROC by DeLong, DeLong & Clarke-Pearson 1988, equations 4 and 5.

    ``S10/m + S01/n``: sample variances of the placement values of the m positives and of the n
    negatives. The placements come from binary search in O(n log n), the idea of Sun & Xu 2014
    ("Fast implementation of DeLong's algorithm"). ``None`` with fewer than two members in a class.
    """
    positive, score = checked(y, score)
    return _delong(score[positive], score[~positive])


def _delong(above: Floats, below: Floats) -> float | None:
    if min(above.size, below.size) < 2:
        return None
    ten, one = placements(above, below), placements(below, above)
    return float(ten.var(ddof=1) / above.size + one.var(ddof=1) / below.size)


def _hanley_mcneil(area: float, m: int, n: int) -> float:
    """Variance of the AUROC from the area alone, Hanley & McNeil 1982, equation 1."""
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    pairs = (m - 1) * (q1 - area**2) + (n - 1) * (q2 - area**2)
    return (area * (1 - area) + pairs) / (m * n)


def auroc_interval(y: Array, score: Array, level: float = 0.95) -> Interval | None:
    """Interval of the AUROC by DeLong's variance on the logit scale, so inside (0, 1).

    Small samples, stated because they are the rule at a small hospital:

    * a class of fewer than ``SMALL_CLASS`` members: the larger of DeLong's variance (which two
      equal placements would make zero, and one member undefined) and Hanley & McNeil's;
    * perfect separation, where both variances vanish: with k the size of the smaller class and
      alpha = 1 - level, ``((alpha/2)^(1/k), 1)``, exact if placement values were coin flips, their
      most spread distribution, hence wide; mirrored for an area of 0;
    * a constant score: ``(0.5, 0.5)``, its area is one half in every sample.

    Returns:
        (low, high), or ``None`` when a class is absent.
    """
    positive, score = checked(y, score)
    above, below = score[positive], score[~positive]
    smaller = min(above.size, below.size)
    if not smaller:
        return None
    area = float(placements(above, below).mean())
    if score.min() == score.max():
        return area, area
    if area in (0.0, 1.0):
        bound = ((1 - level) / 2) ** (1 / smaller)
        return (bound, 1.0) if area else (0.0, 1 - bound)
    variance = _delong(above, below) or 0.0
    if smaller < SMALL_CLASS:
        variance = max(variance, _hanley_mcneil(area, above.size, below.size))
    centre = log(area / (1 - area))
    reach = NormalDist().inv_cdf((1 + level) / 2) * sqrt(variance) / (area * (1 - area))
    return _logistic(centre - reach), _logistic(centre + reach)


def _logistic(x: float) -> float:
    # exp would overflow for the huge reach of an area next to 0 or 1.
    return (1 + tanh(x / 2)) / 2


def auprc_interval(
    y: Array, score: Array, level: float = 0.95, replicates: int = 400, seed: int = 0
) -> Interval | None:
    """Percentile interval of the average precision by stratified bootstrap, O(replicates * n).

    Positives and negatives are drawn separately, so the share of positives stays as it is.

    Returns:
        (low, high); ``None`` when a class is absent, and where resampling shows no uncertainty
        though there is: below ``FEWEST_RESAMPLED`` positives, and at perfect separation.
    """
    positive, score = checked(y, score)
    above, below = score[positive], score[~positive]
    if above.size < FEWEST_RESAMPLED or not below.size or above.min() > below.max():
        return None
    order = np.argsort(-score, kind="stable")
    ends, ordered = tie_ends(score[order]), positive[order]
    rng = np.random.default_rng(seed)
    areas, block = [], max(1, BLOCK // ordered.size)
    for start in range(0, replicates, block):
        size = min(block, replicates - start)
        true, false = (_draws(member, size, rng).cumsum(axis=1) for member in (ordered, ~ordered))
        areas.append(average_precision(true[:, ends], false[:, ends]))
    low, high = np.quantile(np.concatenate(areas), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _draws(member: Bools, size: int, rng: np.random.Generator) -> Ints:
    """How often each row is drawn when members are resampled among themselves, [size, n]."""
    rows, n = np.flatnonzero(member), member.size
    drawn = rows[rng.integers(rows.size, size=(size, rows.size))] + n * np.arange(size)[:, None]
    return np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n)


@dataclass(frozen=True)
class PairedDifference:
    """How much better ``a`` is than ``b`` on the same folds.

    Attributes:
        n: pairs in which both values exist.
        mean: of a - b.
        sd: sample standard deviation of a - b; ``None`` for a single pair, like what follows
            from it.
        standard_error: of the mean.
        low, high: interval of the mean.
        wins: pairs with a > b.
    """

    n: int
    mean: float
    sd: float | None
    standard_error: float | None
    low: float | None
    high: float | None
    wins: int


def paired_difference(
    a: Sequence[float | None],
    b: Sequence[float | None],
    level: float = 0.95,
    test_to_train: float = 0.0,
) -> PairedDifference:
    """Compare two models fold by fold, with Student's t interval of the mean difference.

    Args:
        a, b: one value per fold, ``None`` where it does not exist.
        level: coverage of the interval.
        test_to_train: rows tested over rows trained on in each fold. Training sets of
            cross-validation overlap and make sd / sqrt(n) too small; Nadeau & Bengio 2003
            (section 3) put sd * sqrt(1/n + test_to_train). 0 is the ordinary paired t.

    Raises:
        LengthMismatchError: not the same folds.
        EmptyInputError: no fold has both values.
    """
    if len(a) != len(b):
        raise LengthMismatchError("a", (len(a),), "b", (len(b),))
    gaps = [x - y for x, y in zip(a, b, strict=True) if x is not None and y is not None]
    if not gaps:
        raise EmptyInputError("the list of folds with both values")
    n, mean, wins = len(gaps), fmean(gaps), sum(gap > 0 for gap in gaps)
    if n == 1:
        return PairedDifference(n, mean, None, None, None, None, wins)
    # scipy.stats takes half a second to import and the round loop has no use for it.
    from scipy.stats import t

    sd = stdev(gaps)
    error = sd * sqrt(1 / n + test_to_train)
    reach = float(t.ppf((1 + level) / 2, n - 1)) * error
    return PairedDifference(n, mean, sd, error, mean - reach, mean + reach, wins)

"""Metric names and point estimates of a binary classifier, in numpy alone for the round loop.

Everywhere ``y`` is 0/1 of shape [n] and ``score`` the predicted probability of label 1, shape
[n]; both are checked (:func:`fl_assets.learning.inputs.checked`). A metric that does not exist
for the data at hand is ``None``, never a stand-in number.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fl_assets.learning.inputs import Array, Bools, Floats, checked, checked_labels

Ints = npt.NDArray[np.integer[Any]]


class Metric(StrEnum):
    """Every metric name of the project, as it appears in messages, MLflow and reports."""

    AUROC = "auroc"
    AUROC_LOW = "auroc_low"
    AUROC_HIGH = "auroc_high"
    AUPRC = "auprc"
    AUPRC_LOW = "auprc_low"
    AUPRC_HIGH = "auprc_high"
    SENSITIVITY_AT_80_SPECIFICITY = "sensitivity_at_80_specificity"
    THRESHOLD = "threshold"
    SENSITIVITY = "sensitivity"
    SPECIFICITY = "specificity"
    ACCURACY = "accuracy"
    MAJORITY_RATE = "majority_rate"
    BALANCED_ACCURACY = "balanced_accuracy"
    BRIER = "brier"
    LOG_LOSS = "log_loss"
    ECE = "ece"
    TRAIN_LOSS = "train_loss"


def auroc(y: Array, score: Array) -> float | None:
    """Area under the ROC curve: P(score of a positive > of a negative), ties counting half.

    The Mann-Whitney statistic over (positives x negatives) by binary search, O(n log n). Half for
    any constant score; ``None`` when a class is absent.
    """
    positive, score = checked(y, score)
    above, below = score[positive], score[~positive]
    if not above.size or not below.size:
        return None
    return float(placements(above, below).mean())


def placements(values: Floats, others: Floats) -> Floats:
    """Share of ``others`` below each of ``values``, ties counting half; shape of ``values``."""
    ordered = np.sort(others)
    beaten = ordered.searchsorted(values, "left") + ordered.searchsorted(values, "right")
    shares: Floats = beaten / (2.0 * others.size)
    return shares


def auprc(y: Array, score: Array) -> float | None:
    """Average precision, sum of (R_k - R_(k-1)) P_k over distinct scores (scikit-learn's).

    The share of positives for a constant score; ``None`` when a class is absent.
    """
    positive, score = checked(y, score)
    if positive.all() or not positive.any():
        return None
    return float(average_precision(*cumulative_counts(positive, score)))


def cumulative_counts(positive: Bools, score: Floats) -> tuple[Ints, Ints]:
    """(true, false) positives when calling everyone from the k-th highest distinct score up."""
    order = np.argsort(-score, kind="stable")
    last = tie_ends(score[order])
    true = np.cumsum(positive[order], dtype=np.int64)[last]
    return true, last + 1 - true


def tie_ends(ordered: Floats) -> Ints:
    """Index of the last member of each run of equal values in a sorted array."""
    return np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))


def average_precision(true: Ints, false: Ints) -> Floats:
    """Average precision along the last axis of cumulative counts; the last true is not zero."""
    precision = true / np.maximum(true + false, 1)
    gained = np.diff(true, prepend=0)
    area: Floats = (gained * precision).sum(axis=-1) / true[..., -1]
    return area


def brier(y: Array, score: Array) -> float:
    """Mean squared error of the probability; a constant at the rate r has r (1 - r)."""
    positive, score = checked(y, score)
    return float(np.mean((score - positive) ** 2))


def log_loss(y: Array, score: Array) -> float:
    """Mean negative log-likelihood in nats.

    A score of exactly 0 or 1 counts as float64 epsilon away from it, as in scikit-learn.
    """
    positive, score = checked(y, score)
    likelihood = np.where(positive, score, 1.0 - score)
    return float(-np.log(np.maximum(likelihood, np.finfo(np.float64).eps)).mean())


def ece(y: Array, score: Array, bins: int = 10) -> float:
    """Expected calibration error: mean over people of |mean score - observed rate| of their bin.

    Bins are of equal mass, not of equal width: at a few per cent of positives nearly all scores
    fall into the first equal-width bin, and equal mass is the less biased of the two (Roelofs et
    al. 2022, "Mitigating bias in calibration error estimation", section 5). The estimate is still
    biased upwards in small samples: a perfectly calibrated model at a 5 % rate shows about 0.03
    for 200 people and 0.015 for 1,000. ``|score - rate|`` for a constant score.
    """
    positive, score = checked(y, score)
    gaps = [(score[rows] - positive[rows]).sum() for rows in equal_mass(score, bins)]
    return float(np.abs(gaps).sum() / len(score))


def equal_mass(score: Floats, bins: int) -> list[Ints]:
    """Row indices of at most ``bins`` bins of about equal size, by ascending score.

    Equal scores share a bin, so that the result does not depend on the order of the rows.
    """
    order = np.argsort(score, kind="stable")
    wanted = np.arange(1, bins) * len(score) // bins
    ends = tie_ends(score[order]) + 1
    cuts = np.unique(ends[np.searchsorted(ends, wanted)])
    return [rows for rows in np.split(order, cuts) if rows.size]


def sensitivity_at_specificity(y: Array, score: Array, specificity: float = 0.8) -> float | None:
    """Highest sensitivity of any threshold whose specificity is at least ``specificity``.

    ``None`` when a class is absent, 0 for a constant score.
    """
    positive, score = checked(y, score)
    critical = _critical_score(positive, score, specificity)
    if critical is None or not positive.any():
        return None
    return float(np.mean(score[positive] > critical))


def threshold_at_specificity(y: Array, score: Array, specificity: float = 0.8) -> float | None:
    """Threshold of :func:`sensitivity_at_specificity`; call positive what reaches it.

    It lies half way between two observed scores: it is then no patient's score, and a last-digit
    difference when a row is scored again flips nobody. Slightly above 1 when already the highest
    score costs too much specificity; ``None`` without negatives.
    """
    positive, score = checked(y, score)
    critical = _critical_score(positive, score, specificity)
    if critical is None:
        return None
    upper = float(score.min(where=score > critical, initial=1.0 + 1e-6))
    middle = (critical + upper) / 2
    return middle if middle > critical else upper


def _critical_score(positive: Bools, score: Floats, specificity: float) -> float | None:
    """Highest score that must be called negative to reach the specificity."""
    negatives = np.sort(score[~positive])
    if not negatives.size:
        return None
    # 1e-9: 0.8 * 10 must mean 8 true negatives whatever its last binary digit.
    needed = int(np.ceil(specificity * negatives.size - 1e-9))
    return float(negatives[needed - 1]) if needed > 0 else -1.0


class Confusion(NamedTuple):
    """Counts at one threshold, and the rates they give."""

    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int

    @property
    def sensitivity(self) -> float | None:
        """Share of positives called positive."""
        return _share(self.true_positives, self.false_negatives)

    @property
    def specificity(self) -> float | None:
        """Share of negatives called negative."""
        return _share(self.true_negatives, self.false_positives)

    @property
    def accuracy(self) -> float:
        """Share of rows called rightly; read it beside :func:`majority_rate`."""
        return (self.true_positives + self.true_negatives) / sum(self)

    @property
    def balanced_accuracy(self) -> float | None:
        """Mean of sensitivity and specificity."""
        if self.sensitivity is None or self.specificity is None:
            return None
        return (self.sensitivity + self.specificity) / 2


def _share(part: int, rest: int) -> float | None:
    return part / (part + rest) if part + rest else None


def confusion(y: Array, score: Array, threshold: float) -> Confusion:
    """Count right and wrong calls when ``score >= threshold`` is called positive."""
    positive, score = checked(y, score)
    called = score >= threshold
    cells = (called & positive, called & ~positive, ~called & ~positive, ~called & positive)
    return Confusion(*(int(np.count_nonzero(cell)) for cell in cells))


def majority_rate(y: Array) -> float:
    """Accuracy of always naming the more frequent class: the floor of any accuracy."""
    rate = float(checked_labels(y).mean())
    return max(rate, 1.0 - rate)


def weighted_mean(values: Iterable[tuple[float | None, float]]) -> float | None:
    """Mean of (value, weight) pairs without those whose value is ``None``.

    ``None`` when no value or no weight is left.
    """
    present = [(value, weight) for value, weight in values if value is not None]
    total = sum(weight for _, weight in present)
    return sum(value * weight for value, weight in present) / total if total else None

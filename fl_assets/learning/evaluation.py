"""``Evaluation``: what a site says about a model on its own held-out people, and nothing more."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from pydantic import NonNegativeInt, PositiveInt

from fl_assets.config import StrictModel
from fl_assets.learning.inputs import Array, checked
from fl_assets.learning.intervals import auprc_interval, auroc_interval
from fl_assets.learning.metrics import (
    auprc,
    auroc,
    brier,
    confusion,
    cumulative_counts,
    ece,
    equal_mass,
    log_loss,
    majority_rate,
    sensitivity_at_specificity,
    threshold_at_specificity,
)

ROC_GRID = 101
"""False-positive rates 0, 0.01, ..., 1 at which ROC curves are exchanged and drawn."""


class CalibrationBin(NamedTuple):
    """A group of people with similar scores.

    Attributes:
        n: people.
        predicted: their mean score.
        observed: share of positives among them.
    """

    n: int
    predicted: float
    observed: float


def roc_points(y: Array, score: Array, grid: int = ROC_GRID) -> list[float]:
    """Sensitivity at ``grid`` equally spaced false-positive rates from 0 to 1.

    Linear between the corners of the empirical curve, where the curve jumps its upper end; so a
    constant score is the diagonal, and curves of several sites can be averaged point by point.
    Empty when a class is absent.
    """
    positive, score = checked(y, score)
    true, false = cumulative_counts(positive, score)
    if not true[-1] or not false[-1]:
        return []
    tpr = np.concatenate([[0.0], true / true[-1]])
    fpr = np.concatenate([[0.0], false / false[-1]])
    # Quotients of whole numbers like fpr: equal fractions are equal floats, and no jump is missed.
    rates = np.arange(grid) / (grid - 1)
    left = fpr.searchsorted(rates, "right") - 1
    right = np.minimum(left + 1, len(fpr) - 1)
    width = fpr[right] - fpr[left]
    along = np.divide(rates - fpr[left], width, out=np.zeros(grid), where=width > 0)
    return [float(rate) for rate in tpr[left] + along * (tpr[right] - tpr[left])]


def calibration_bins(
    y: Array, score: Array, bins: int = 10, minimum: int = 5
) -> list[CalibrationBin]:
    """Mean score and observed rate in bins of about equal mass, by ascending score.

    Neighbouring bins are merged until each stands for at least ``minimum`` people; empty when
    there are fewer altogether.
    """
    positive, score = checked(y, score)
    merged: list[list[int]] = [[]]
    for rows in equal_mass(score, bins):
        if len(merged[-1]) >= minimum:
            merged.append([])
        merged[-1].extend(rows.tolist())
    if len(merged[-1]) < minimum and len(merged) > 1:
        rest = merged.pop()
        merged[-1].extend(rest)
    return [
        CalibrationBin(len(rows), float(score[rows].mean()), float(positive[rows].mean()))
        for rows in merged
        if len(rows) >= minimum
    ]


class Evaluation(StrictModel):
    """One model on one set of people; aggregates only, JSON in both directions.

    The exact rates give away ``positives`` even where it is small: whether a site evaluates so few
    people at all is decided before this is computed.

    Attributes:
        n, positives: people, and those with label 1.
        auroc, auroc_low, auroc_high: with its 95 % interval.
        auprc, auprc_low, auprc_high: average precision with its 95 % interval.
        sensitivity_at_80_specificity: at the best threshold on these very people.
        threshold: at which the next four are counted.
        sensitivity, specificity, accuracy, balanced_accuracy: at ``threshold``.
        majority_rate: accuracy of always naming the more frequent class.
        brier, log_loss, ece: errors of the probabilities, see :mod:`fl_assets.learning.metrics`.
        roc: sensitivity on the ``ROC_GRID``; empty when a class is absent.
        calibration: bins of at least the minimum number of people.
    """

    n: PositiveInt
    positives: NonNegativeInt
    auroc: float | None
    auroc_low: float | None
    auroc_high: float | None
    auprc: float | None
    auprc_low: float | None
    auprc_high: float | None
    sensitivity_at_80_specificity: float | None
    threshold: float | None
    sensitivity: float | None
    specificity: float | None
    accuracy: float | None
    majority_rate: float
    balanced_accuracy: float | None
    brier: float
    log_loss: float
    ece: float
    roc: list[float]
    calibration: list[CalibrationBin]


def evaluate(
    y: Array, score: Array, threshold: float | None = None, minimum: int = 5
) -> Evaluation:
    """Compute every metric of a model on one set of people.

    Args:
        y: 0/1, shape [n].
        score: probability of label 1, shape [n].
        threshold: call positive from here up; choose it on other people. Without it the one at
            80 % specificity on these people is taken, which flatters sensitivity a little.
        minimum: smallest number of people a calibration bin may stand for.

    Raises:
        MetricInputError: empty, mismatched, labels other than 0/1, or scores outside 0..1.
    """
    positive, score = checked(y, score)
    if threshold is None:
        threshold = threshold_at_specificity(positive, score, 0.8)
    counts = None if threshold is None else confusion(positive, score, threshold)
    auroc_low, auroc_high = auroc_interval(positive, score) or (None, None)
    auprc_low, auprc_high = auprc_interval(positive, score) or (None, None)
    return Evaluation(
        n=len(score),
        positives=int(np.count_nonzero(positive)),
        auroc=auroc(positive, score),
        auroc_low=auroc_low,
        auroc_high=auroc_high,
        auprc=auprc(positive, score),
        auprc_low=auprc_low,
        auprc_high=auprc_high,
        sensitivity_at_80_specificity=sensitivity_at_specificity(positive, score, 0.8),
        threshold=threshold,
        sensitivity=counts and counts.sensitivity,
        specificity=counts and counts.specificity,
        accuracy=counts and counts.accuracy,
        majority_rate=majority_rate(positive),
        balanced_accuracy=counts and counts.balanced_accuracy,
        brier=brier(positive, score),
        log_loss=log_loss(positive, score),
        ece=ece(positive, score),
        roc=roc_points(positive, score),
        calibration=calibration_bins(positive, score, minimum=minimum),
    )

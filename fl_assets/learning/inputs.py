"""Checked labels and scores: what every metric takes in, and what it says when they are wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fl_assets.errors import BadDataError

Array = npt.NDArray[Any]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


class MetricInputError(BadDataError):
    """Labels or scores from which no metric can be computed."""


class EmptyInputError(MetricInputError):
    """Nothing to compute a metric from."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} is empty: skip the metric where there are no rows")


class LengthMismatchError(MetricInputError):
    """Two arrays that must go together row by row do not."""

    def __init__(self, first: str, shape: object, second: str, other: object) -> None:
        super().__init__(
            f"{first} has shape {shape} and {second} {other}: give one value per row to both"
        )


class BadLabelError(MetricInputError):
    """Labels other than 0 and 1."""

    def __init__(self, bad: int, rows: int) -> None:
        super().__init__(f"{bad} of {rows} labels are neither 0 nor 1: encode the outcome first")


class BadScoreError(MetricInputError):
    """Scores that are no probabilities."""

    def __init__(self, bad: int, rows: int) -> None:
        super().__init__(
            f"{bad} of {rows} scores are not finite or outside 0..1: pass probabilities, not "
            "logits, and look for a diverged training"
        )


def checked_labels(y: Array) -> Bools:
    """Return which rows are positive.

    Args:
        y: 0/1 of any numeric or boolean type, shape [n].

    Raises:
        EmptyInputError: no rows.
        BadLabelError: another value than 0 and 1.
    """
    y = np.asarray(y)
    if y.size == 0:
        raise EmptyInputError("the label array")
    positive: Bools = y == 1
    known = int(np.count_nonzero(positive) + np.count_nonzero(y == 0))
    if known != y.size:
        raise BadLabelError(y.size - known, y.size)
    return positive


def checked(y: Array, score: Array) -> tuple[Bools, Floats]:
    """Return (is positive, score as float64), both of shape [n].

    Args:
        y: 0/1, shape [n].
        score: probabilities of label 1, shape [n].

    Raises:
        EmptyInputError: no rows.
        LengthMismatchError: not two vectors of one length.
        BadLabelError: a label other than 0 and 1.
        BadScoreError: a score that is not finite or outside 0..1.
    """
    positive, score = checked_labels(y), np.asarray(score, dtype=np.float64)
    if positive.ndim != 1 or positive.shape != score.shape:
        raise LengthMismatchError("y", positive.shape, "score", score.shape)
    # A NaN makes min and max NaN, which fails both comparisons.
    if not (score.min() >= 0.0 and score.max() <= 1.0):
        bad = int(np.count_nonzero(~((score >= 0.0) & (score <= 1.0))))
        raise BadScoreError(bad, score.size)
    return positive, score

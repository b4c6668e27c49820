"""How well a model ranks and how honest its probabilities are, from noised counts alone.

The rows of a part are counted by label and by bin of their score, noise is added to the counts,
and every figure is made of them. The number of rows is public, here as everywhere.

How noisy that is, at delta 1e-5 on 600 rows of the public stroke file with 30 positives, where the
exact AUROC is 0.886 (1,000 draws, mean and standard deviation):

=======  =====================  =============  =============  =============
epsilon  counted by             AUROC          positives      ECE (0.018)
=======  =====================  =============  =============  =============
1        score                  0.81 +- 0.07   30 +- 8        0.035 +- 0.01
1        score, and by age      0.79 +- 0.09   30 +- 12       0.043 +- 0.01
3        score, and by age      0.84 +- 0.04   30 +- 4        0.026 +- 0.01
8        score, and by age      0.86 +- 0.02   30 +- 2        0.022 +- 0.00
=======  =====================  =============  =============  =============

So at epsilon 1 a single hospital's AUROC says little: noise spreads the positives over the bins,
which pulls it towards a half, and the bins alone cost 0.009. The mean over many hospitals has less
spread and the same pull.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from fl_assets.learning.inputs import Array, Floats, checked
from fl_assets.learning.metrics import Ints
from fl_assets.privacy.noised_counts import onto_total

_EDGES = np.linspace(-2.0, 2.0, 9)
"""Between the bins: log odds of the score minus those of the public prevalence."""

_STEP = 0.5
BINS = len(_EDGES) + 1
_CENTRES = np.append(_EDGES, _EDGES[-1] + _STEP) - _STEP / 2


@dataclass(frozen=True)
class ScoreFigures:
    """A model on some rows, as well as it can be told.

    Attributes:
        rows: how many; exact, since it is public.
        positives: how many have label 1, as far as the noise lets one tell.
        auroc: with ties counting half; None where the noise left no row of a label.
        sensitivity_at_80_specificity: None like ``auroc``.
        threshold: probability above which a fifth of the rows of label 0 lie, None where none is
            left.
        brier, log_loss, ece: with every score at the centre of its bin. The noise of the bins adds
            to ``ece``.
    """

    rows: int
    positives: int
    auroc: float | None
    sensitivity_at_80_specificity: float | None
    threshold: float | None
    brier: float
    log_loss: float
    ece: float


def count_scores(y: Array, score: Array, prevalence: float) -> Floats:
    """Count rows by label and bin of the score; a row is in one count, so the L2 sensitivity is 1.

    Args:
        y: labels 0/1, [n].
        score: probabilities, [n].
        prevalence: public rate of label 1, around which the bins lie half a unit of log odds apart.

    Returns:
        ``[2 * BINS]``: the bins of label 0 by ascending score, then those of label 1.

    Raises:
        MetricInputError: labels or scores that are none.
    """
    positive, score = checked(y, score)
    edges = expit(logit(prevalence) + _EDGES)
    return count_by_label(positive, edges.searchsorted(score, "right"), BINS)


def count_by_label(y: Array, cell: Ints, cells: int) -> Floats:
    """Count rows by label and cell; the L2 sensitivity is 1.

    Args:
        y: labels 0/1, [n].
        cell: from 0, [n].
        cells: how many.

    Returns:
        ``[2 * cells]``: the cells of label 0, then those of label 1.
    """
    return np.bincount(cell + cells * (y == 1), minlength=2 * cells).astype(np.float64)


def figures(noised: Floats, rows: int, prevalence: float) -> ScoreFigures:
    """Return the figures of noised counts; without noise they are those of scores by bin.

    Args:
        noised: of :func:`count_scores`, ``[2 * BINS]``.
        rows: their public number, at least 1.
        prevalence: as there.
    """
    negatives, positives = _by_label(noised, rows)
    centres = expit(logit(prevalence) + _CENTRES)
    threshold, sensitivity = _at_specificity(negatives, positives, 0.8)
    gaps = positives - (negatives + positives) * centres
    squares = negatives * centres**2 + positives * (1 - centres) ** 2
    surprise = negatives * np.log1p(-centres) + positives * np.log(centres)
    return ScoreFigures(
        rows=rows,
        positives=round(positives.sum()),
        auroc=_auroc(negatives, positives),
        sensitivity_at_80_specificity=sensitivity,
        threshold=None if threshold is None else float(expit(logit(prevalence) + threshold)),
        brier=float(squares.sum() / rows),
        log_loss=float(-surprise.sum() / rows),
        ece=float(np.abs(gaps).sum() / rows),
    )


def auroc(noised: Floats, rows: int) -> float | None:
    """Return the AUROC of noised counts by label and ascending cell, ties counting half.

    Args:
        noised: of :func:`count_by_label`.
        rows: their public number.

    Returns:
        None where the noise left no row of a label.
    """
    return _auroc(*_by_label(noised, rows))


def _by_label(noised: Floats, rows: int) -> tuple[Floats, Floats]:
    """Return the counts of label 0 and of label 1, which together are the public number."""
    negatives, positives = np.split(noised, 2)
    # Both halves tell how many are positive, with independent noise: their mean is closer.
    told = round((rows - negatives.sum() + positives.sum()) / 2)
    count = min(max(told, 0), rows)
    return onto_total(negatives, rows - count), onto_total(positives, count)


def _auroc(negatives: Floats, positives: Floats) -> float | None:
    pairs = negatives.sum() * positives.sum()
    if not pairs:
        return None
    below = np.cumsum(negatives) - negatives / 2
    return float(positives @ below / pairs)


def _at_specificity(
    negatives: Floats, positives: Floats, specificity: float
) -> tuple[float | None, float | None]:
    """Return the threshold as log odds above the prevalence, and the sensitivity there.

    Within a bin rows are taken to lie evenly, and the two outer bins to be as wide as the others.
    """
    if not negatives.sum():
        return None, None
    bounds = np.append(_CENTRES - _STEP / 2, _CENTRES[-1] + _STEP / 2)
    threshold = float(np.interp(specificity, _shares_below(negatives), bounds))
    if not positives.sum():
        return threshold, None
    return threshold, 1.0 - float(np.interp(threshold, bounds, _shares_below(positives)))


def _shares_below(counts: Floats) -> Floats:
    shares: Floats = np.concatenate([[0.0], np.cumsum(counts)]) / counts.sum()
    return shares

"""Membership inference: who was trained on, by how sure a model is of a row's own label.

Everywhere a confidence is ``log(p / (1 - p))`` of the probability p that a model gives to a row's
true label: Carlini et al. 2022, "Membership inference attacks from first principles", section V-C,
whose distribution over trainings is near a Gaussian.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np

from fl_assets.errors import FlAssetsError
from fl_assets.learning.inputs import Bools, Floats

PER_ROW_VARIANCE = 64
"""Shadow models from which on each row has a variance of its own; the paper shares one below."""

_SMALLEST = np.finfo(np.float64).eps


class TooFewShadowsError(FlAssetsError):
    """Shadow models from which no Gaussian can be had."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__(
            f"a row was in {inside} and out of {outside} shadow models, and a variance needs 2 of "
            "each: train more of them"
        )


class Attack(StrEnum):
    """The attacks of an audit, as they are named in documents, MLflow and reports."""

    LOSS_THRESHOLD = "loss_threshold"
    LIKELIHOOD_RATIO = "likelihood_ratio"


def confidence(y: Floats, probability: Floats) -> Floats:
    """Return the confidence in each row's true label, [n].

    Args:
        y: labels 0/1, [n].
        probability: of label 1, [n]; 0 and 1 count as float64 epsilon away from there.
    """
    bounded = np.clip(probability, _SMALLEST, 1 - _SMALLEST)
    logit = np.log(bounded) - np.log1p(-bounded)
    own: Floats = np.where(y == 1, logit, -logit)
    return own


def loss_threshold(target: Floats) -> Floats:
    """Score rows by the model's loss alone: what was trained on is fitted better.

    Yeom et al. 2018, "Privacy risk in machine learning", section 3.2 (adversary 2). It degenerates
    to coin flips for a model without a generalisation gap, and it takes every hard row for one
    that was not trained on.

    Args:
        target: confidences of the attacked model, [n].

    Returns:
        The negated loss in nats, [n]; higher is more likely a member.
    """
    score: Floats = -np.logaddexp(0.0, -target)
    return score


def likelihood_ratio(target: Floats, shadows: Floats, inside: Bools) -> Floats:
    """Score rows by LiRA, online: Carlini et al. 2022, algorithm 1.

    ``log N(c | mean_in, var_in) - log N(c | mean_out, var_out)`` of the attacked model's
    confidence c, the Gaussians being fitted to models that did and did not see the row. With fewer
    than ``PER_ROW_VARIANCE`` shadow models all rows share the two variances, the mean over rows of
    each row's sample variance; give rows of one label at a time, whose variances are alike. It
    degenerates to the loss threshold where all rows have the same means and both variances are
    equal, and to a constant where a row makes no difference to the model.

    Args:
        target: confidences of the attacked model, [n].
        shadows: confidences of each shadow model, [k, n].
        inside: whether a shadow model was trained on the row, [k, n].

    Returns:
        Log-likelihood ratio in nats, [n]; higher is more likely a member.

    Raises:
        TooFewShadowsError: a row with fewer than two models of a kind.
    """
    if not target.size:
        return target
    seen = inside.sum(axis=0)
    if min(seen.min(), (len(inside) - seen).min()) < 2:
        raise TooFewShadowsError(int(seen.min()), int((len(inside) - seen).min()))
    return _log_density(target, shadows, inside) - _log_density(target, shadows, ~inside)


def _log_density(target: Floats, shadows: Floats, chosen: Bools) -> Floats:
    """Log-density of the target [n], but for a constant, under Gaussians of the chosen models."""
    count = chosen.sum(axis=0)
    mean = np.where(chosen, shadows, 0.0).sum(axis=0) / count
    squares = np.where(chosen, (shadows - mean) ** 2, 0.0).sum(axis=0)
    variance = squares / (count - 1)
    if len(shadows) < PER_ROW_VARIANCE:
        variance = np.full_like(variance, variance.mean())
    # Models that agree to the last bit have no variance.
    variance = np.maximum(variance, _SMALLEST)
    density: Floats = -0.5 * (np.log(variance) + (target - mean) ** 2 / variance)
    return density


def balanced_halves(models: int, rows: int, rng: np.random.Generator) -> Bools:
    """Deal rows to training sets so that each is in half of them, [models, rows].

    Every row is then in and out of as many shadow models, which independent coins do not ensure.
    """
    return rng.random((models, rows)).argsort(axis=0) < models // 2

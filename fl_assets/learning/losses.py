"""What training minimises: the losses of the recipes, and the reconstruction error."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from fl_assets.learning.configs import BCEConfig, FocalConfig, LossConfig, WeightedBCEConfig


@dataclass(frozen=True)
class Objective:
    """A loss of recipes, ready for training: ``mean(w_y * (1 - p_y)**gamma * -log(p_y))``.

    ``p_y`` is the probability given to a row's own label y, ``w_y`` that label's weight. With
    ``gamma`` 0 it degenerates to weighted binary cross-entropy, and with both weights 1 then to
    the plain one, bit for bit.

    Attributes:
        config: what was asked for.
        positive_weight: of rows of label 1.
        negative_weight: of rows of label 0.
        gamma: how far rows that the model gets right are discounted.
    """

    config: LossConfig
    positive_weight: float = 1.0
    negative_weight: float = 1.0
    gamma: float = 0.0

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss, a scalar, of logits and 0/1 targets of one shape [n, 1]."""
        weights = None
        if (self.positive_weight, self.negative_weight) != (1.0, 1.0):
            weights = self.negative_weight + targets * (self.positive_weight - self.negative_weight)
        if not self.gamma:
            return functional.binary_cross_entropy_with_logits(logits, targets, weights)
        correct = logits * (2 * targets - 1)
        # (1 - p)**gamma by its logarithm: the power's own gradient at p = 1 is no number.
        focus = (self.gamma * functional.logsigmoid(-correct)).exp()
        losses = -focus * functional.logsigmoid(correct)
        return (losses if weights is None else losses * weights).mean()


def build_objective(config: LossConfig, prevalence: float) -> Objective:
    """Return the loss that a recipe asks for.

    - ``bce``: binary cross-entropy on logits.
    - ``weighted_bce``: label 1 weighs ``positive_weight``, by default the odds of label 0, so that
      both labels weigh the same in a cohort of that prevalence; a weight of 1 is ``bce``.
    - ``focal``: Lin et al. 2017, equation 4, or 5 with ``alpha``; averaged over the rows. A gamma
      of 0 is ``bce``, or with ``alpha`` weighted cross-entropy.

    Args:
        config: which loss.
        prevalence: public label rate.
    """
    match config:
        case BCEConfig():
            return Objective(config)
        case WeightedBCEConfig():
            odds = (1 - prevalence) / prevalence
            weight = odds if config.positive_weight is None else config.positive_weight
            return Objective(config, positive_weight=weight)
        case FocalConfig():
            a = config.alpha
            positive, negative = (1.0, 1.0) if a is None else (a, 1 - a)
            return Objective(config, positive, negative, config.gamma)


def reconstruction_error(decoded: Tensor, features: Tensor) -> Tensor:
    """Return the squared error of an autoencoder, averaged over all entries of [n, d]."""
    return functional.mse_loss(decoded, features)

"""DP-SGD: local training of which each step hides every single row."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fl_assets.errors import BadDataError, FlAssetsError
from fl_assets.learning.closed_form import linear_chain
from fl_assets.learning.configs import OptimizerConfig
from fl_assets.learning.fused import build_step
from fl_assets.learning.losses import Objective
from fl_assets.privacy.clipping import ChainClippedSum, ClippedSum
from fl_assets.privacy.configs import PrivacyConfig
from fl_assets.privacy.grad_samples import Loss, grad_sample_sum, refuse_mixed_rows
from fl_assets.privacy.noise import NoiseSource


class TooFewRowsError(BadDataError):
    """A cohort too small for differential privacy."""

    def __init__(self, rows: int, minimum: int) -> None:
        super().__init__(
            f"{rows} training rows are fewer than the {minimum} that the recipe asks for "
            "(`privacy.minimum_rows`), or the hospital (`privacy_budget.minimum_rows`): so few "
            "drown in the noise. Leave this hospital out, or wait until it has more"
        )


class DeltaTooLargeError(BadDataError):
    """A delta with which a mechanism may release somebody's row as it is."""

    def __init__(self, delta: float, rows: int) -> None:
        super().__init__(
            f"delta {delta:g} is above one over {rows} training rows, so that publishing a random "
            "patient's row would count as private: lower `privacy.delta` in the recipe, well below "
            f"{1 / rows:.1g}"
        )


class MissingNoiseError(FlAssetsError):
    """Training with differential privacy was about to go without noise."""

    def __init__(self, noise_multiplier: float) -> None:
        super().__init__(
            f"noise multiplier {noise_multiplier:g} hides nothing: compute it from epsilon by "
            "fl_assets.privacy.accounting.noise_multiplier"
        )


class WeightsOutOfRangeError(FlAssetsError):
    """Training with differential privacy left the range of floats."""

    def __init__(self) -> None:
        super().__init__(
            "training with differential privacy came to weights that are no numbers: lower the "
            "learning rate or the clip"
        )


def train_privately(
    model: nn.Module,
    X: Tensor,
    targets: Tensor,
    *,
    objective: Loss,
    optimizer: OptimizerConfig,
    privacy: PrivacyConfig,
    noise_multiplier: float,
    noise: NoiseSource,
    proximal_mu: float = 0.0,
) -> None:
    """Train in place, ``privacy.steps`` steps of DP-SGD (Abadi et al. 2016, algorithm 1).

    A step takes each row with probability ``sampling_rate``, or every row if that is 1; scales
    the gradient of each row's loss down to the clip; adds them, and normal noise of standard
    deviation ``noise_multiplier * clip``; and divides by the expected number of rows, which is
    public, while the drawn one is not. A draw without a row makes a step of noise. What the
    optimiser and the proximal term do afterwards sees no row. Without noise, with a clip that
    nothing reaches and every row, it degenerates to a step of gradient descent on the mean loss.

    The noise is added in float64 and the result rounded to the model's float32. The sum itself is
    in float32, and its rounding errors, 1e-7 of it, are not counted into what a row may change.

    No loss is computed or returned, for it would have to be noised as well.

    Args:
        model: [n, d] to outputs [n, k]; chains of Linear and ReLU under a cross-entropy take the
            way of :mod:`fl_assets.privacy.clipping`, others that of
            :mod:`fl_assets.privacy.grad_samples`.
        X: float32 [n, d].
        targets: float32 [n, k]; [n] counts as [n, 1].
        objective: mean loss of outputs and targets.
        optimizer: built fresh here.
        privacy: clip, sampling rate, steps and minimum of rows.
        noise_multiplier: standard deviation of the noise over the clip, above 0.
        noise: of the draws of rows and of the noise.
        proximal_mu: as of :func:`fl_assets.learning.training.train_epochs`.

    Raises:
        TooFewRowsError: n is below the minimum.
        MissingNoiseError: the noise multiplier is not above 0.
        UnsupportedModelError: rows of the model depend on each other; found before any step.
        WeightsOutOfRangeError: a weight is no number any more.
    """
    if len(X) < privacy.minimum_rows:
        raise TooFewRowsError(len(X), privacy.minimum_rows)
    if not 0 < noise_multiplier < math.inf:
        raise MissingNoiseError(noise_multiplier)
    # As in training without privacy, see there.
    torch.set_num_threads(1)
    model.train()
    targets = targets.unsqueeze(1) if targets.ndim == 1 else targets
    weights = [p.detach() for p in model.parameters() if p.requires_grad]
    gradient = torch.cat([torch.zeros_like(w).flatten() for w in weights])
    parts = torch.split(gradient, [w.numel() for w in weights])
    gradients = [part.view_as(w) for part, w in zip(parts, weights, strict=True)]
    update = build_step(optimizer, weights, gradients)
    start = [w.clone() for w in weights]
    # Plain numbers would be made tensors in every step.
    deviation = torch.tensor(noise_multiplier * privacy.clip, dtype=torch.float64)
    expected = torch.tensor(privacy.sampling_rate * len(X), dtype=torch.float64)
    with _clipped_sum(model, X, targets, objective, privacy.clip, gradients) as write_sum:
        for rows, wanted in _draws(X, targets, privacy, noise):
            write_sum(rows, wanted)
            noised = noise.normal(gradient.shape).mul_(deviation).add_(gradient)
            gradient.copy_(noised.div_(expected))
            if proximal_mu:
                moved = torch._foreach_sub(weights, start)
                torch._foreach_add_(gradients, moved, alpha=proximal_mu)
            update()
    if not all(torch.isfinite(w).all() for w in weights):
        raise WeightsOutOfRangeError


@contextmanager
def _clipped_sum(
    model: nn.Module,
    X: Tensor,
    targets: Tensor,
    objective: Loss,
    clip: float,
    sums: Sequence[Tensor],
) -> Iterator[ClippedSum]:
    chain = linear_chain(model)
    if chain and isinstance(objective, Objective) and not objective.gamma:
        with torch.inference_mode():
            yield ChainClippedSum(chain, objective, clip, sums)
        return
    refuse_mixed_rows(model, objective, X.shape[1], targets.shape[1])
    with grad_sample_sum(model, objective, clip, sums) as write:
        yield write


def _draws(
    X: Tensor, targets: Tensor, privacy: PrivacyConfig, noise: NoiseSource
) -> Iterator[tuple[Tensor, Tensor]]:
    for _ in range(privacy.steps):
        if privacy.sampling_rate == 1:
            yield X, targets
        else:
            drawn = noise.chosen(len(X), privacy.sampling_rate).nonzero().squeeze(1)
            yield X.index_select(0, drawn), targets.index_select(0, drawn)

"""The optimisers' steps as bare kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fl_assets.learning.configs import OptimizerConfig


def build_step(
    config: OptimizerConfig, weights: Sequence[Tensor], gradients: Sequence[Tensor]
) -> Callable[[], None]:
    """Return what moves the weights in place by the gradients, with a fresh optimiser.

    The kernels are those of ``torch.optim``'s fused optimisers, called without the Python around
    them, which takes several times as long; torch is pinned to one release.
    """
    weights, gradients = list(weights), list(gradients)
    first = [torch.zeros_like(w) for w in weights]
    if config.kind == "sgd":
        buffers = first if config.momentum else []

        def sgd() -> None:
            torch._fused_sgd_(
                weights,
                gradients,
                buffers,
                weight_decay=config.weight_decay,
                momentum=config.momentum,
                lr=config.lr,
                dampening=0.0,
                nesterov=False,
                maximize=False,
                is_first_step=False,
            )

        return sgd

    second = [torch.zeros_like(w) for w in weights]
    count, one = torch.tensor(0.0), torch.tensor(1.0)
    counts = [count] * len(weights)

    def adam() -> None:
        count.add_(one)
        torch._fused_adam_(
            weights,
            gradients,
            first,
            second,
            [],
            counts,
            lr=config.lr,
            beta1=0.9,
            beta2=0.999,
            weight_decay=config.weight_decay,
            eps=1e-8,
            amsgrad=False,
            maximize=False,
        )

    return adam

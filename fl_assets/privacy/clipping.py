"""Sums of clipped per-row gradients of Linear/ReLU chains, by formula."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from fl_assets.learning.losses import Objective

ClippedSum = Callable[[Tensor, Tensor], None]
"""Writes the clipped sum over rows X [b, d] with targets [b, k] into the tensors it was made for.

The gradient of each row's own loss over all trained weights is scaled down to an L2 norm of at
most the clip (Abadi et al. 2016, algorithm 1), then the rows are added. A row whose gradient is
beyond the range of floats counts nothing: it could turn the sum into no number.
"""

_threshold_backward = torch.ops.aten.threshold_backward


def clip_factors(norms: Tensor, clip: float) -> Tensor:
    """Return what to multiply rows by, [b], whose gradients have these L2 norms [b].

    The 1e-6 is Opacus' and is for a gradient of 0. The clip gives way by what the norms may be
    wrong by as floats, so that it holds for the rows as they are added.
    """
    within = clip * (1 - 8 * torch.finfo(norms.dtype).eps)
    return (within / (norms + 1e-6)).clamp_(max=1)


class ChainClippedSum:
    """The clipped sum for a cross-entropy on a chain of Linear and ReLU.

    The gradient of a row by a linear layer's weight is the product of the layer's error and its
    input, so its squared norm with that by the bias is ``|error|^2 (|input|^2 + 1)`` (Goodfellow
    2015), and no row's gradient is ever built: errors are scaled instead.

    Args:
        linear: the layers, first to last, of one dtype.
        objective: a cross-entropy, its ``gamma`` 0.
        clip: largest L2 norm of a row's gradient.
        sums: of the layers' weights and biases, in order; written into.
    """

    def __init__(
        self, linear: Sequence[nn.Linear], objective: Objective, clip: float, sums: Sequence[Tensor]
    ) -> None:
        self._weights = [layer.weight.detach() for layer in linear]
        self._biases = [layer.bias.detach() for layer in linear]
        self._transposed = [weight.t() for weight in self._weights]
        self._objective = objective
        self._clip = clip
        self._sums = list(zip(sums[::2], sums[1::2], strict=True))

    def __call__(self, X: Tensor, targets: Tensor) -> None:
        """Write the sum."""
        inputs, logits = self._forward(X)
        errors = self._backward(inputs, self._error(logits, targets))
        squares = [
            (e * e).sum(1) * (a * a).sum(1).add_(1) for a, e in zip(inputs, errors, strict=True)
        ]
        norms = torch.stack(squares).sum(0).sqrt_()
        if not math.isfinite(norms.sum()):
            bearable = norms.isfinite()
            norms = norms[bearable]
            inputs, errors = ([rows[bearable] for rows in each] for each in (inputs, errors))
        factors = clip_factors(norms, self._clip).unsqueeze(1)
        for (weight, bias), a, e in zip(self._sums, inputs, errors, strict=True):
            e.mul_(factors)
            torch.mm(e.t(), a, out=weight)
            torch.sum(e, 0, out=bias)

    def _forward(self, X: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the inputs of the layers, and the logits."""
        inputs = [X]
        *hidden, last = zip(self._biases, self._transposed, strict=True)
        for bias, transposed in hidden:
            inputs.append(torch.addmm(bias, inputs[-1], transposed).relu_())
        bias, transposed = last
        return inputs, torch.addmm(bias, inputs[-1], transposed)

    def _error(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the gradient of each row's loss by its logits, which the loss averages."""
        positive, negative = self._objective.positive_weight, self._objective.negative_weight
        error = logits.sigmoid_().sub_(targets)
        if not positive == negative == 1:
            error.mul_(negative + targets * (positive - negative))
        return error if error.shape[1] == 1 else error.div_(error.shape[1])

    def _backward(self, inputs: list[Tensor], error: Tensor) -> list[Tensor]:
        """Return the gradients of each row's loss by the layers' outputs."""
        errors = [error]
        for weight, active in zip(self._weights[:0:-1], inputs[:0:-1], strict=True):
            errors.append(_threshold_backward(torch.mm(errors[-1], weight), active, 0))
        return errors[::-1]

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


class Clip:
    """Scales rows down to an L2 norm of at most ``clip``, for norms of a dtype.

    As Opacus does it: its 1e-6 on top of a norm stays. The clip itself gives way by what norms may
    be wrong by as floats, so that it holds for the rows as they are added.
    """

    def __init__(self, clip: float, dtype: torch.dtype) -> None:
        # Plain numbers would be made tensors in every step.
        self._within = torch.tensor(clip * (1 - 8 * torch.finfo(dtype).eps), dtype=dtype)
        self._margin = torch.tensor(1e-6, dtype=dtype)

    def factors(self, norms: Tensor) -> Tensor:
        """Return what to multiply gradients of these norms by, of their shape."""
        return self._within / torch.maximum(norms + self._margin, self._within)


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
        self._layers = [
            (layer.bias.detach(), weight.t())
            for layer, weight in zip(linear, self._weights, strict=True)
        ]
        self._positive, self._negative = objective.positive_weight, objective.negative_weight
        self._clip = Clip(clip, self._weights[0].dtype)
        self._sums = list(zip(sums[::2], sums[1::2], strict=True))
        self._one = torch.ones((), dtype=self._weights[0].dtype)
        self._known = torch.empty(0), torch.empty(0)

    def __call__(self, X: Tensor, targets: Tensor) -> None:
        """Write the sum."""
        inputs, logits = self._forward(X)
        errors = self._backward(inputs, self._error(logits, targets))
        norms = self._norms(inputs, errors)
        if not math.isfinite(norms.sum()):
            bearable = norms.isfinite().squeeze(1)
            norms = norms[bearable]
            inputs, errors = ([rows[bearable] for rows in each] for each in (inputs, errors))
        factors = self._clip.factors(norms)
        for (weight, bias), a, e in zip(self._sums, inputs, errors, strict=True):
            e.mul_(factors)
            torch.mm(e.t(), a, out=weight)
            torch.sum(e, 0, out=bias)

    def _forward(self, X: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the inputs of the layers, and the logits."""
        inputs = [X]
        *hidden, (bias, transposed) = self._layers
        for b, t in hidden:
            inputs.append(torch.addmm(b, inputs[-1], t).relu_())
        return inputs, torch.addmm(bias, inputs[-1], transposed)

    def _error(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the gradient of each row's loss by its logits, over which the loss averages."""
        error = logits.sigmoid_().sub_(targets)
        if not self._positive == self._negative == 1:
            error.mul_(self._negative + targets * (self._positive - self._negative))
        return error if error.shape[1] == 1 else error.div_(error.shape[1])

    def _backward(self, inputs: list[Tensor], error: Tensor) -> list[Tensor]:
        """Return the gradients of each row's loss by the layers' outputs."""
        errors = [error]
        for weight, active in zip(self._weights[:0:-1], inputs[:0:-1], strict=True):
            errors.append(_threshold_backward(torch.mm(errors[-1], weight), active, 0))
        return errors[::-1]

    def _norms(self, inputs: list[Tensor], errors: list[Tensor]) -> Tensor:
        """Return the norm of each row's gradient, [b, 1]."""
        if self._known[0] is not inputs[0]:
            # Steps that take every row are about the same X.
            self._known = inputs[0], self._lengths(inputs[0])
        lengths = [self._known[1], *map(self._lengths, inputs[1:])]
        norms = [_row_norms(e).mul_(x) for e, x in zip(errors, lengths, strict=True)]
        if len(norms) == 1:
            return norms[0]
        return _row_norms(torch.cat(norms, 1))

    def _lengths(self, inputs: Tensor) -> Tensor:
        """Return the length of each input and the bias' 1, [b, 1]."""
        return torch.hypot(_row_norms(inputs), self._one)


def _row_norms(rows: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return norms

"""Minibatch descent on Linear/ReLU chains with gradients by formula, bit for bit autograd's.

At the size of these models most of the time goes into recording and dispatching small operations,
not into arithmetic. Here nothing is recorded and the buffers of a step stay. The kernels, their
order and the tensors' layout are those of autograd, hence the same bits.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import repeat

import torch
from torch import Tensor, nn

from fl_assets.learning.configs import OptimizerConfig
from fl_assets.learning.fused import build_step
from fl_assets.learning.losses import Objective
from fl_assets.learning.minibatches import Minibatches

_threshold_backward = torch.ops.aten.threshold_backward.grad_input


def linear_chain(model: nn.Module) -> list[nn.Linear] | None:
    """Return the linear layers of a chain with a ReLU between each two, None for another model.

    The chain may be made of nested ``nn.Sequential``; every layer has a bias and is trained, and
    hidden layers are wider than one.
    """
    layers = _unnested(model)
    linear = [layer for layer in layers[::2] if type(layer) is nn.Linear]
    alternates = len(layers) == 2 * len(linear) - 1 and all(
        type(layer) is nn.ReLU for layer in layers[1::2]
    )
    # A single number is a row and a column at once, and autograd then multiplies the other way
    # round, which may change the last bit.
    wide = all(layer.in_features > 1 for layer in linear[1:])
    # The parameters of a layer that occurs twice are listed once.
    weights = [w for w in model.parameters() if w.requires_grad and w.dtype == torch.float32]
    return linear if alternates and wide and len(weights) == 2 * len(linear) else None


def _unnested(module: nn.Module) -> list[nn.Module]:
    # A subclass may do something else in its forward.
    if isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
        return [layer for child in module for layer in _unnested(child)]
    return [module]


class _Layer:
    """One layer's weight [out, in] and bias [out], and their gradients."""

    def __init__(self, layer: nn.Linear) -> None:
        self.weight, self.bias = layer.weight.detach(), layer.bias.detach()
        self.parameters = self.weight, self.bias
        self.gradients = torch.empty_like(self.weight), torch.empty_like(self.bias)
        self._transposed = self.weight.t()

    def forward(self, inputs: Tensor, out: Tensor) -> Tensor:
        return torch.addmm(self.bias, inputs, self._transposed, out=out)

    def backward(self, error: Tensor, transposed: Tensor, inputs: Tensor) -> None:
        torch.mm(transposed, inputs, out=self.gradients[0])
        torch.sum(error, 0, out=self.gradients[1])


class _Backpropagation:
    """The gradient over batches of one size, and what it writes on the way.

    A mean of n cross-entropies with weights w has the gradient ``w (sigmoid(z) - y) / n`` by the
    logits z; below them it is backpropagation (Goodfellow et al. 2016, algorithm 6.4).
    """

    def __init__(self, layers: list[_Layer], rows: int) -> None:
        self._layers = layers
        self._active = [torch.empty(rows, len(layer.bias)) for layer in layers[:-1]]
        errors = [torch.empty(rows, len(layer.bias)) for layer in layers]
        self._errors = [(error, error.t()) for error in errors]
        # A plain number would be made a tensor in every step.
        self._count = torch.tensor(float(errors[-1].numel()))

    def __call__(self, X: Tensor, y: Tensor, weights: Tensor | None, logits: Tensor) -> None:
        """Write the logits and the layers' gradients."""
        *hidden, last = self._layers
        inputs = X
        for layer, out in zip(hidden, self._active, strict=True):
            inputs = layer.forward(inputs, out).relu_()
        last.forward(inputs, logits)

        error, transposed = self._errors[-1]
        torch.sigmoid(logits, out=error).sub_(y)
        if weights is not None:
            error.mul_(weights)
        error.div_(self._count)
        for i in range(len(hidden), 0, -1):
            layer, inputs, above = self._layers[i], self._active[i - 1], error
            layer.backward(above, transposed, inputs)
            error, transposed = self._errors[i - 1]
            torch.mm(above, layer.weight, out=error)
            _threshold_backward(error, inputs, 0, grad_input=error)
        self._layers[0].backward(error, transposed, X)


@torch.inference_mode()
def descend(
    linear: list[nn.Linear],
    batches: Minibatches,
    *,
    objective: Objective,
    optimizer: OptimizerConfig,
    epochs: int,
    proximal_mu: float,
) -> Tensor:
    """Train a chain in place.

    Args:
        linear: its layers, first to last.
        batches: of the rows; left as the last epoch had them.
        objective: a cross-entropy, its ``gamma`` 0.
        optimizer: fresh here.
        epochs: passes over the rows, at least one.
        proximal_mu: as of :func:`fl_assets.learning.training.train_epochs`.

    Returns:
        The logits [n, k] as met in the last epoch, in its order.
    """
    layers = [_Layer(layer) for layer in linear]
    backpropagate = {
        rows: _Backpropagation(layers, rows) for rows in {len(y) for _, y in batches.batches}
    }
    parameters = [w for layer in layers for w in layer.parameters]
    gradients = [g for layer in layers for g in layer.gradients]
    update = build_step(optimizer, parameters, gradients)
    start = [w.clone() for w in parameters]
    logits = [torch.empty_like(y) for _, y in batches.batches]
    for _ in range(epochs):
        batches.shuffle()
        weights = _row_weights(objective, batches)
        for (X, y), w, z in zip(batches.batches, weights, logits, strict=False):
            backpropagate[len(y)](X, y, w, z)
            if proximal_mu:
                moved = torch._foreach_sub(parameters, start)
                torch._foreach_add_(gradients, moved, alpha=proximal_mu)
            update()
    return torch.cat(logits)


def _row_weights(objective: Objective, batches: Minibatches) -> Iterable[Tensor | None]:
    """Return the weights [b, k] of each batch, None for a cross-entropy without weights."""
    positive, negative = objective.positive_weight, objective.negative_weight
    if positive == negative == 1:
        return repeat(None)
    return torch.split(negative + batches.targets * (positive - negative), batches.size)

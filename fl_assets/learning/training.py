"""Local training: epochs of minibatch descent, with an optional proximal term."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fl_assets.errors import FlAssetsError
from fl_assets.learning.closed_form import descend, linear_chain
from fl_assets.learning.configs import OptimizerConfig
from fl_assets.learning.losses import Objective
from fl_assets.learning.minibatches import Minibatches

HOPELESS_LOSS = -math.log(np.finfo(np.float64).eps)
"""Nats per row, about 36: the truth has no more than float64's epsilon of probability."""


class TrainingDivergedError(FlAssetsError):
    """Training went to weights that predict nothing."""

    def __init__(self, loss: float) -> None:
        super().__init__(
            f"training diverged to a mean loss of {loss:.3g} per row: lower the learning rate"
        )


def build_optimizer(config: OptimizerConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Return the optimiser over the model's parameters, in torch's fused form."""
    if config.kind == "sgd":
        return torch.optim.SGD(
            model.parameters(),
            lr=config.lr,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            fused=True,
        )
    return torch.optim.Adam(
        model.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True
    )


def derive_seed(*parts: object) -> int:
    """Return a 63-bit seed that depends on every part, so that no two uses share a stream."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def train_epochs(
    model: nn.Module,
    X: Tensor,
    targets: Tensor,
    *,
    objective: Callable[[Tensor, Tensor], Tensor],
    optimizer: OptimizerConfig,
    epochs: int,
    batch_size: int,
    seed: int,
    proximal_mu: float = 0.0,
    closed_form: bool = True,
) -> float:
    """Train in place.

    With ``proximal_mu`` > 0 the gradient of ``mu / 2 * ||w - w_start||^2`` is added at every step
    (FedProx: Li et al. 2020, section 3.2, equation 2); with 0 it degenerates to plain training, as
    FedProx does to FedAvg.

    Args:
        model: [n, d] to outputs [n, k]; its present weights are the start.
        X: float32 [n, d], n > 0.
        targets: float32 [n, k]; [n] counts as [n, 1].
        objective: mean loss, a scalar, of outputs and targets [b, k].
        optimizer: built fresh here.
        epochs: passes over the rows, at least one.
        batch_size: rows per step; the last step of an epoch may have fewer.
        seed: of the shuffles.
        proximal_mu: weight of the proximal term.
        closed_form: for a cross-entropy on a chain of Linear and ReLU compute the gradients by
            formula (:mod:`fl_assets.learning.closed_form`), which gives the same bits in a
            fraction of the time. Autograd does whatever else comes, and everything if False.

    Returns:
        Mean loss over the rows of the last epoch, as met during training.

    Raises:
        TrainingDivergedError: that loss is no number or beyond ``HOPELESS_LOSS``, times the weight
            of label 1 where that is above 1.
    """
    _use_one_thread()
    model.train()
    batches = Minibatches(X, targets, batch_size, seed)
    chain = linear_chain(model) if closed_form else None
    if chain and isinstance(objective, Objective) and not objective.gamma:
        outputs = descend(
            chain,
            batches,
            objective=objective,
            optimizer=optimizer,
            epochs=epochs,
            proximal_mu=proximal_mu,
        )
    else:
        outputs = _descend_by_autograd(model, batches, objective, optimizer, epochs, proximal_mu)
    mean = float(objective(outputs, batches.targets))
    weight = objective.positive_weight if isinstance(objective, Objective) else 1.0
    # NaN compares false.
    if not mean < HOPELESS_LOSS * max(weight, 1.0):
        raise TrainingDivergedError(mean)
    return mean


def _descend_by_autograd(
    model: nn.Module,
    batches: Minibatches,
    objective: Callable[[Tensor, Tensor], Tensor],
    optimizer: OptimizerConfig,
    epochs: int,
    proximal_mu: float,
) -> Tensor:
    descent = build_optimizer(optimizer, model)
    parameters = list(model.parameters())
    anchor = [p.detach().clone() for p in parameters] if proximal_mu else []
    outputs: list[Tensor] = []
    for _ in range(epochs):
        batches.shuffle()
        outputs.clear()
        for xb, yb in batches.batches:
            descent.zero_grad()
            output = model(xb)
            objective(output, yb).backward()  # type: ignore[no-untyped-call]
            if proximal_mu:
                for p, start in zip(parameters, anchor, strict=True):
                    if p.grad is not None:
                        p.grad.add_(p.detach() - start, alpha=proximal_mu)
            descent.step()
            outputs.append(output.detach())
    return torch.cat(outputs)


@torch.no_grad()
def infer(model: nn.Module, X: Tensor) -> Tensor:
    """Return a model's outputs [n, k] for rows [n, d], as they are when it is not training."""
    _use_one_thread()
    model.eval()
    outputs: Tensor = model(X)
    return outputs


def predict(model: nn.Module, X: Tensor) -> NDArray[np.float64]:
    """Return probabilities [n] of rows [n, d]."""
    probabilities: NDArray[np.float64] = torch.sigmoid(infer(model, X).squeeze(1).double()).numpy()
    return probabilities


def _use_one_thread() -> None:
    # Models of this size lose time to a second core. The matrix library counts for each thread
    # that calls it, and a site may answer every message in a new one.
    torch.set_num_threads(1)

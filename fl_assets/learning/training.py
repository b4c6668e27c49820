"""Local training: epochs of minibatch descent on index tensors, with an optional proximal term."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fl_assets.errors import FlAssetsError
from fl_assets.learning.configs import OptimizerConfig

HOPELESS_LOSS = -math.log(np.finfo(np.float64).eps)
"""Nats per row, about 36: the truth has no more than float64's epsilon of probability."""


class TrainingDivergedError(FlAssetsError):
    """Training went to weights that predict nothing."""

    def __init__(self, loss: float) -> None:
        super().__init__(
            f"training diverged to a mean loss of {loss:.3g} nats per row: lower the learning rate"
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
    y: Tensor,
    *,
    optimizer: OptimizerConfig,
    epochs: int,
    batch_size: int,
    seed: int,
    proximal_mu: float = 0.0,
) -> float:
    """Train in place with binary cross-entropy on logits.

    With ``proximal_mu`` > 0 the gradient of ``mu / 2 * ||w - w_start||^2`` is added at every step
    (FedProx: Li et al. 2020, section 3.2, equation 2); with 0 it degenerates to plain training, as
    FedProx does to FedAvg.

    Args:
        model: [n, d] to [n, 1] logits; its present weights are the start.
        X: float32 [n, d], n > 0.
        y: float32 [n], 0 or 1.
        optimizer: built fresh here.
        epochs: passes over the rows.
        batch_size: rows per step; the last step of an epoch may have fewer.
        seed: of the shuffles.
        proximal_mu: weight of the proximal term.

    Returns:
        Mean loss over the rows of the last epoch, as met during training.

    Raises:
        TrainingDivergedError: that loss is no number or beyond ``HOPELESS_LOSS``.
    """
    model.train()
    descent = build_optimizer(optimizer, model)
    parameters = list(model.parameters())
    anchor = [p.detach().clone() for p in parameters] if proximal_mu else []
    shuffle = torch.Generator().manual_seed(seed)
    losses: list[Tensor] = []
    for _ in range(epochs):
        order = torch.randperm(len(X), generator=shuffle)
        losses.clear()
        # One gather per epoch and views per batch: a gather per batch costs twice as much.
        batches = zip(
            torch.split(X[order], batch_size),
            torch.split(y[order].unsqueeze(1), batch_size),
            strict=True,
        )
        for xb, yb in batches:
            descent.zero_grad()
            loss = nn.functional.binary_cross_entropy_with_logits(model(xb), yb)
            loss.backward()  # type: ignore[no-untyped-call]
            if proximal_mu:
                for p, start in zip(parameters, anchor, strict=True):
                    if p.grad is not None:
                        p.grad.add_(p.detach() - start, alpha=proximal_mu)
            descent.step()
            losses.append(loss.detach())
    sizes = torch.tensor([len(yb) for yb in torch.split(y, batch_size)], dtype=torch.float32)
    mean = float(torch.dot(torch.stack(losses), sizes) / sizes.sum())
    # NaN compares false.
    if not mean < HOPELESS_LOSS:
        raise TrainingDivergedError(mean)
    return mean


@torch.no_grad()
def predict(model: nn.Module, X: Tensor) -> NDArray[np.float64]:
    """Return probabilities [n] of rows [n, d]."""
    model.eval()
    probabilities: NDArray[np.float64] = torch.sigmoid(model(X).squeeze(1).double()).numpy()
    return probabilities

"""Federated averaging of a logistic regression as a plain torch loop, to measure against.

Nothing of the product's training is used: no DataLoader, no Flower, no stores, no log. The maths
is that of recipe ``fedavg-lr``: zero weights, bias at the public prevalence, per round and site a
validation of the global model and one epoch of minibatch SGD with momentum from it, then the mean
weighted by rows.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class BareSite:
    """A hospital's rows: X float32 [n, d], y float32 [n], and the same for validation."""

    name: str
    X: Tensor
    y: Tensor
    X_val: Tensor
    y_val: Tensor


@dataclass(frozen=True)
class BareResult:
    """A finished run.

    Attributes:
        weights: global, [d + 1], the bias last.
        history: per round and site the incoming model's validation loss and AUROC, then the
            training loss.
    """

    weights: Floats
    history: list[tuple[float, float, float]]


def run_bare(
    sites: list[BareSite],
    *,
    rounds: int,
    batch_size: int,
    lr: float,
    momentum: float,
    prevalence: float,
    seed: int,
) -> BareResult:
    """Train; the sites in the order of their names, for float sums depend on order."""
    torch.set_num_threads(1)
    model = torch.nn.Linear(sites[0].X.shape[1], 1)
    weight = torch.zeros_like(model.weight.detach())
    bias = torch.full((1,), float(np.log(prevalence / (1 - prevalence))))
    history: list[tuple[float, float, float]] = []
    total = sum(len(site.X) for site in sites)
    for round_ in range(1, rounds + 1):
        next_weight, next_bias = torch.zeros_like(weight), torch.zeros_like(bias)
        for site in sites:
            with torch.no_grad():
                model.weight.copy_(weight)
                model.bias.copy_(bias)
                logits = model(site.X_val).squeeze(1)
                loss = functional.binary_cross_entropy_with_logits(logits, site.y_val)
            auroc = _auroc(site.y_val.numpy(), logits.numpy())
            shuffle = torch.Generator().manual_seed(_seed(seed, site.name, round_))
            train_loss = _epoch(model, site, batch_size, lr, momentum, shuffle)
            history.append((float(loss), auroc, train_loss))
            share = len(site.X) / total
            next_weight += share * model.weight.detach()
            next_bias += share * model.bias.detach()
        weight, bias = next_weight, next_bias
    return BareResult(torch.cat([weight.flatten(), bias]).numpy(), history)


def _epoch(
    model: torch.nn.Linear,
    site: BareSite,
    batch_size: int,
    lr: float,
    momentum: float,
    shuffle: torch.Generator,
) -> float:
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, fused=True)
    order = torch.randperm(len(site.X), generator=shuffle)
    batches = zip(
        torch.split(site.X[order], batch_size),
        torch.split(site.y[order].unsqueeze(1), batch_size),
        strict=True,
    )
    losses, sizes = [], []
    for X, y in batches:
        optimizer.zero_grad()
        loss = functional.binary_cross_entropy_with_logits(model(X), y)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.detach())
        sizes.append(len(X))
    return float(torch.stack(losses) @ torch.tensor(sizes, dtype=torch.float32)) / len(site.X)


def _auroc(y: Floats, score: Floats) -> float:
    """Probability that a positive scores above a negative, ties counting half."""
    positive, negative = score[y == 1], np.sort(score[y == 0])
    if not len(positive) or not len(negative):
        return float("nan")
    below = np.searchsorted(negative, positive, "left").sum()
    not_above = np.searchsorted(negative, positive, "right").sum()
    return float(below + not_above) / (2 * len(positive) * len(negative))


def _seed(seed: int, hospital: str, round_: int) -> int:
    """The documented seed of a site's shuffle: SHA-256 over seed, hospital and round."""
    digest = hashlib.sha256("\x1f".join([str(seed), hospital, str(round_)]).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1

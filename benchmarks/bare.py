"""Federated averaging as a plain torch loop, to measure against.

Nothing of the product's training is used: no DataLoader, no Flower, no stores, no log. The maths
is that of the recipes: first weights by the seed, per round and site a validation of the global
model and some epochs of minibatch descent from it with a fresh fused optimiser, then the mean
weighted by rows.
"""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
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
class BarePlan:
    """What is to be done.

    Attributes:
        hidden: widths of the hidden layers; with none it is a logistic regression.
        optimizer: class and arguments, as torch has them.
        rounds, epochs, batch_size: of the training.
        prevalence: whose logit the last bias starts at.
        seed: of the first weights and of the shuffles.
    """

    hidden: tuple[int, ...]
    optimizer: tuple[type[torch.optim.SGD] | type[torch.optim.Adam], dict[str, Any]]
    rounds: int
    epochs: int
    batch_size: int
    prevalence: float
    seed: int


@dataclass(frozen=True)
class BareResult:
    """A finished run.

    Attributes:
        weights: global, all parameters one after the other.
        history: per round and site the incoming model's validation loss and AUROC, then the
            training loss.
    """

    weights: Floats
    history: list[tuple[float, float, float]]


def run_bare(sites: list[BareSite], plan: BarePlan) -> BareResult:
    """Train; the sites in the order of their names, for float sums depend on order."""
    torch.set_num_threads(1)
    model = _model(sites[0].X.shape[1], plan)
    parameters = list(model.parameters())
    weights = [p.detach().clone() for p in parameters]
    history: list[tuple[float, float, float]] = []
    total = sum(len(site.X) for site in sites)
    for round_ in range(1, plan.rounds + 1):
        means = [torch.zeros_like(w) for w in weights]
        for site in sites:
            with torch.no_grad():
                for p, w in zip(parameters, weights, strict=True):
                    p.copy_(w)
                logits = model(site.X_val).squeeze(1)
                loss = functional.binary_cross_entropy_with_logits(logits, site.y_val)
            auroc = _auroc(site.y_val.numpy(), logits.numpy())
            history.append((float(loss), auroc, _descend(model, site, plan, round_)))
            for mean, p in zip(means, parameters, strict=True):
                mean += p.detach() * (len(site.X) / total)
        weights = means
    return BareResult(torch.cat([w.flatten() for w in weights]).numpy(), history)


def _model(features: int, plan: BarePlan) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(plan.seed)
        widths = (features, *plan.hidden, 1)
        layers = [nn.Linear(a, b) for a, b in itertools.pairwise(widths)]
    nn.init.constant_(layers[-1].bias, float(np.log(plan.prevalence / (1 - plan.prevalence))))
    if not plan.hidden:
        nn.init.zeros_(layers[0].weight)
    return nn.Sequential(*[part for layer in layers for part in (layer, nn.ReLU())][:-1])


def _descend(model: nn.Sequential, site: BareSite, plan: BarePlan, round_: int) -> float:
    """Train a round; return the mean loss of its last epoch."""
    kind, arguments = plan.optimizer
    optimizer = kind(model.parameters(), fused=True, **arguments)
    shuffle = torch.Generator().manual_seed(_seed(plan.seed, site.name, round_))
    targets = site.y.unsqueeze(1)
    for _ in range(plan.epochs):
        order = torch.randperm(len(site.X), generator=shuffle)
        batches = zip(
            torch.split(site.X[order], plan.batch_size),
            torch.split(targets[order], plan.batch_size),
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

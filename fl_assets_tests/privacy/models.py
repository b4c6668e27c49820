"""What the tests of private training share: rows, models, and gradients of rows one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from fl_assets.learning.configs import (
    AttentionFusionConfig,
    EarlyFusionConfig,
    EmbeddingConfig,
    LateFusionConfig,
    LogisticRegressionConfig,
    MLPConfig,
)
from fl_assets.learning.models import build_model

WIDTH = 16
GROUPS = {"first": range(5), "second": range(5, 12), "third": range(12, WIDTH)}
CONFIGS = {
    "lr": LogisticRegressionConfig(),
    "mlp": MLPConfig(),
    "embedding": EmbeddingConfig(encoder=(24, 12), norm="none"),
    "normed": EmbeddingConfig(encoder=(24, 12)),
    "early": EarlyFusionConfig(norm="layer"),
    "late": LateFusionConfig(norm="layer"),
    "attention": AttentionFusionConfig(hidden=(8,), norm="layer"),
}
CHAINS = ("lr", "mlp", "embedding")


def rows(count: int, width: int = WIDTH, seed: int = 0) -> tuple[Tensor, Tensor]:
    """X [n, width] and targets [n, 1], a fifth of them of label 1."""
    generator = torch.Generator().manual_seed(seed)
    X = torch.randn(count, width, generator=generator)
    return X, (torch.rand(count, 1, generator=generator) < 0.2).float()


def model_of(name: str, seed: int = 1) -> nn.Module:
    """One of the shipped kinds; no weight is zero, so that no layer is silent."""
    model = build_model(CONFIGS[name], GROUPS, 0.2, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    return model


def row_gradients(
    model: nn.Module, X: Tensor, targets: Tensor, loss: Callable[[Tensor, Tensor], Tensor]
) -> list[list[Tensor]]:
    """The gradient of each row by each weight, by autograd on that row alone."""
    weights = list(model.parameters())
    return [
        list(torch.autograd.grad(loss(model(x), y), weights))
        for x, y in zip(X.split(1), targets.split(1), strict=True)
    ]


def norm(gradients: Sequence[Tensor]) -> float:
    """The L2 norm over all weights."""
    return float(torch.cat([g.flatten() for g in gradients]).norm())


def clipped_one_by_one(by_row: list[list[Tensor]], clip: float) -> list[Tensor]:
    """Abadi et al. 2016, algorithm 1, in a loop; with the 1e-6 that Opacus adds to norms."""
    scaled = [[g * min(1.0, clip / (norm(row) + 1e-6)) for g in row] for row in by_row]
    return [torch.stack(each).sum(0) for each in zip(*scaled, strict=True)]

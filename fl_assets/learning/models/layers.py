"""The parts that the models are put together from."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import nn

from fl_assets.learning.configs import Norm


def blocks(widths: Sequence[int], norm: Norm) -> list[nn.Module]:
    """Return linear, norm and ReLU from each width to the next; nothing for a single width."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers.append(nn.Linear(inputs, outputs))
        if norm == "layer":
            layers.append(nn.LayerNorm(outputs))
        layers.append(nn.ReLU())
    return layers


def logit_layer(inputs: int, start: float) -> nn.Linear:
    """Return a linear layer to one logit whose bias is ``start``."""
    layer = nn.Linear(inputs, 1)
    nn.init.constant_(layer.bias, start)
    return layer


def network(widths: Sequence[int], norm: Norm, start: float) -> nn.Sequential:
    """Return blocks through ``widths``, the input's first, and a logit layer on them."""
    return nn.Sequential(*blocks(widths, norm), logit_layer(widths[-1], start))

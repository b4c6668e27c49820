"""The torch models: one logit per row."""

from __future__ import annotations

import itertools
import math

import torch
from torch import nn

from fl_assets.learning.configs import LogisticRegressionConfig, MLPConfig


def build_model(
    config: LogisticRegressionConfig | MLPConfig, features: int, prevalence: float, seed: int
) -> nn.Sequential:
    """Build a model with reproducible first weights.

    Args:
        config: which model.
        features: width of the input.
        prevalence: public label rate; the last bias starts at its logit, so that training does
            not spend its first rounds on the class balance.
        seed: of the first weights.

    Returns:
        A module from [n, features] to [n, 1] logits.
    """
    widths = [features, *(config.hidden if isinstance(config, MLPConfig) else ()), 1]
    # The global generator is shared with whatever else runs in the process.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        linear = [nn.Linear(a, b) for a, b in itertools.pairwise(widths)]
    layers: list[nn.Module] = []
    for layer in linear:
        layers += [layer, nn.ReLU()]
    with torch.no_grad():
        linear[-1].bias.fill_(math.log(prevalence / (1 - prevalence)))
        if isinstance(config, LogisticRegressionConfig):
            linear[-1].weight.zero_()
    return nn.Sequential(*layers[:-1])

"""Which of a model's weights a hospital may keep to itself."""

from __future__ import annotations

from typing import Literal, cast

from torch import nn

from fl_assets.learning.models.fusion import LateFusion

LocalLayers = Literal["norm", "head"]
"""``norm`` for the norm layers, ``head`` for those that give a logit."""


def local_names(model: nn.Module, layers: LocalLayers) -> frozenset[str]:
    """Return the state-dict names of those layers' weights, of any model of this package.

    There are none of ``norm`` in a model without norm layers; ``head`` is everything in a logistic
    regression.
    """
    chosen = _logit_layers(model) if layers == "head" else _norm_layers(model)
    kept = {id(weight) for layer in chosen for weight in layer.parameters()}
    return frozenset(name for name, weight in model.named_parameters() if id(weight) in kept)


def _norm_layers(model: nn.Module) -> list[nn.Module]:
    return [layer for layer in model.modules() if isinstance(layer, nn.LayerNorm)]


def _logit_layers(model: nn.Module) -> list[nn.Module]:
    ends = model.networks if isinstance(model, LateFusion) else [model]
    return [cast(nn.Sequential, end)[-1] for end in ends]

"""From a recipe's model config to a model with reproducible first weights."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from fl_assets.errors import FlAssetsError
from fl_assets.learning.configs import (
    AttentionFusionConfig,
    EarlyFusionConfig,
    EmbeddingConfig,
    LateFusionConfig,
    LogisticRegressionConfig,
    MLPConfig,
    ModelConfig,
)
from fl_assets.learning.features import Preprocessor
from fl_assets.learning.models.embedding import Autoencoder, autoencoder, embedding
from fl_assets.learning.models.fusion import LateFusion, attention_fusion, early_fusion
from fl_assets.learning.models.layers import logit_layer, network


class FeatureGroupsError(FlAssetsError):
    """Feature groups that do not deal out the columns of a matrix."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        found = ", ".join(f"{name} {size}" for name, size in sizes.items())
        super().__init__(
            f"feature groups (columns: {found or 'no group'}) must not be empty and must hold each "
            "column from 0 up once: take them from the preprocessor's feature_groups"
        )


def model_for(config: ModelConfig, preprocessor: Preprocessor, seed: int) -> nn.Module:
    """Build the model that takes a preprocessor's features, see :func:`build_model`."""
    return build_model(
        config, preprocessor.feature_groups, preprocessor.cohort.label.prevalence, seed
    )


def build_model(
    config: ModelConfig, groups: Mapping[str, Sequence[int]], prevalence: float, seed: int
) -> nn.Module:
    """Build a model with reproducible first weights.

    Args:
        config: which model.
        groups: columns of the feature matrix by feature group; their order is that of a fusion
            model's networks and of the columns of its attention.
        prevalence: public label rate; the last bias starts at its logit, so that training does
            not spend its first rounds on the class balance.
        seed: of the first weights.

    Returns:
        A module from [n, d] to [n, 1] logits, all float32: a ``Sequential`` that ends in the logit
        layer, or a :class:`LateFusion`.

    Raises:
        FeatureGroupsError: the groups do not hold each of 0..d-1 once, or one is empty.
    """
    columns = sorted(itertools.chain(*groups.values()))
    if not columns or columns != list(range(len(columns))) or not all(groups.values()):
        raise FeatureGroupsError({name: len(group) for name, group in groups.items()})
    start = math.log(prevalence / (1 - prevalence))
    with _first_weights(seed):
        return _build(config, list(groups.values()), len(columns), start)


def _build(
    config: ModelConfig, groups: Sequence[Sequence[int]], features: int, start: float
) -> nn.Module:
    match config:
        case LogisticRegressionConfig():
            layer = logit_layer(features, start)
            nn.init.zeros_(layer.weight)
            return nn.Sequential(layer)
        case MLPConfig():
            return network((features, *config.hidden), "none", start)
        case EmbeddingConfig():
            return embedding(features, config.encoder, config.norm, start)
        case EarlyFusionConfig():
            return early_fusion(groups, config, start)
        case LateFusionConfig():
            return LateFusion(groups, config, start)
        case AttentionFusionConfig():
            return attention_fusion(groups, config, start)


def build_autoencoder(config: EmbeddingConfig, features: int, seed: int) -> Autoencoder:
    """Build the autoencoder that pre-trains an embedding model's encoder.

    Args:
        config: of the embedding model.
        features: width of the input and of the output.
        seed: of the first weights; those of the encoder are the embedding model's of that seed.
    """
    with _first_weights(seed):
        return autoencoder(features, config.encoder, config.norm)


@contextmanager
def _first_weights(seed: int) -> Iterator[None]:
    """Torch draws first weights from its global generator, which others in the process share."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield

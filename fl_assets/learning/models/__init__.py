"""The torch models of the recipes: features in, one logit per row out."""

from fl_assets.learning.models.build import (
    FeatureGroupsError,
    build_autoencoder,
    build_model,
    model_for,
)
from fl_assets.learning.models.embedding import Autoencoder, EmbeddingModel
from fl_assets.learning.models.fusion import AttentionFusion, LateFusion
from fl_assets.learning.models.local import LocalLayers, local_names

__all__ = [
    "AttentionFusion",
    "Autoencoder",
    "EmbeddingModel",
    "FeatureGroupsError",
    "LateFusion",
    "LocalLayers",
    "build_autoencoder",
    "build_model",
    "local_names",
    "model_for",
]

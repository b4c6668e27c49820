"""The global model of a release, ready to score rows."""

from __future__ import annotations

import torch

from fl_assets.coordinator.preprocessors import load_preprocessors
from fl_assets.coordinator.release import ReleaseRecord
from fl_assets.errors import FlAssetsError
from fl_assets.federation.job import FederationResult
from fl_assets.learning.models import model_for
from fl_assets.learning.training import predict
from fl_assets.site.comparison import TrainedModel
from fl_assets.storage import SiteStore


class OutdatedModelError(FlAssetsError):
    """A model whose features would be made differently now."""

    def __init__(self, recipe: str) -> None:
        super().__init__(
            f"the model of recipe {recipe} was trained with another preprocessor than the current "
            f"one: `fla run {recipe}` trains it anew"
        )


def trained_model(
    store: SiteStore, release: ReleaseRecord, result: FederationResult
) -> TrainedModel:
    """Return the global model of a release.

    Args:
        store: the coordinator's.
        release: of which model.
        result: its weights.

    Raises:
        OutdatedModelError: the preprocessor is not the one it was trained with.
    """
    preprocessor = load_preprocessors(store).of(release.recipe)
    if preprocessor.version != release.preprocessor:
        raise OutdatedModelError(release.recipe.name)
    model = model_for(release.recipe.model, preprocessor, release.recipe.seed)
    model.load_state_dict({k: torch.from_numpy(v) for k, v in result.weights.items()})
    return TrainedModel(
        preprocessor, lambda X: predict(model, torch.from_numpy(X)), release.threshold
    )

"""The global model of a release."""

from __future__ import annotations

from fl_assets.coordinator.preprocessors import load_preprocessors
from fl_assets.coordinator.release import ReleaseRecord
from fl_assets.errors import FlAssetsError
from fl_assets.federation.job import FederationResult
from fl_assets.site.model_data import ModelData
from fl_assets.storage import SiteStore


class OutdatedModelError(FlAssetsError):
    """A model whose features would be made differently now."""

    def __init__(self, recipe: str) -> None:
        super().__init__(
            f"the model of recipe {recipe} was trained with another preprocessor than the current "
            f"one: `fla run {recipe}` trains it anew"
        )


def released_model(store: SiteStore, release: ReleaseRecord, result: FederationResult) -> ModelData:
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
    return ModelData(
        config=release.recipe.model,
        preprocessor=preprocessor,
        weights=result.weights,
        threshold=release.threshold,
    )

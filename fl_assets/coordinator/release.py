"""The release record: one document that walks a model version back to everything it came from."""

from __future__ import annotations

from pydantic import Field

from fl_assets.config import StrictModel
from fl_assets.coordinator.guarantee import NONE
from fl_assets.federation.recipe import Recipe
from fl_assets.federation.statement import PrivacyStatement
from fl_assets.site.partitions import PartitionManifest

FILE = "release.json"


class RoundRecord(StrictModel):
    """Who took part in a round, and why others did not."""

    round: int
    participants: tuple[str, ...]
    dropouts: dict[str, str]


class ReleaseRecord(StrictModel):
    """What a model version is made of.

    Attributes:
        model, version: in the registry.
        run, mlflow_run: ours and MLflow's.
        code_version: of ``fl_assets``.
        recipe, recipe_hash: what was asked for.
        contract: version of the cohort spec.
        preprocessor: version of the feature specification.
        hospitals: partition manifest of each participant, with the SHA-256 of every file.
        rounds: participants and dropouts of each.
        threshold: operating point that ships with the model.
        validation: the last model on each hospital's validation rows, AUROC or None.
        seeds: how random choices were seeded, the noise of a private run apart.
        privacy: what the run guarantees, in words.
        spending: what it cost the patients of each hospital, in the hospital's own words.
    """

    model: str
    version: str
    run: str
    mlflow_run: str
    code_version: str
    recipe: Recipe
    recipe_hash: str
    contract: str
    preprocessor: str
    hospitals: dict[str, PartitionManifest]
    rounds: tuple[RoundRecord, ...]
    threshold: float
    validation: dict[str, float | None]
    seeds: str = (
        "first weights from the recipe's seed; shuffles from seed, hospital and round "
        "(SHA-256); noise for privacy from a key that each site draws and forgets"
    )
    privacy: str = NONE
    spending: dict[str, PrivacyStatement] = Field(default={})

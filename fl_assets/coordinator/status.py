"""What each hospital and each recipe has."""

from __future__ import annotations

from fl_assets.config import StrictModel
from fl_assets.coordinator.erased import erased_versions
from fl_assets.coordinator.evaluation import load_evaluation
from fl_assets.coordinator.lineage import open_registry
from fl_assets.coordinator.training import load_release
from fl_assets.federation.recipe import recipe_names
from fl_assets.learning.metrics import Metric
from fl_assets.reporting.html import Cell, Table
from fl_assets.settings import Settings
from fl_assets.site import intake, partitions, profile
from fl_assets.storage import ObjectNotFoundError
from fl_assets.tracking.models import CHAMPION
from fl_assets.tracking.runs import TrackingError


class HospitalStatus(StrictModel):
    """One hospital; None where it has nothing yet."""

    hospital: str
    uploads: int | None = None
    refused: int | None = None
    records: int | None = None
    quarantined: int | None = None
    parts: dict[str, int] | None = None
    profile: str | None = None


class RecipeStatus(StrictModel):
    """One recipe; None where it has nothing yet.

    Attributes:
        erased_since: day since which a patient in its data is erased.
    """

    recipe: str
    version: str | None = None
    hospitals: tuple[str, ...] = ()
    rounds: int | None = None
    mean_test_auroc: float | None = None
    hospitals_behind_auroc: int | None = None
    erased_since: str | None = None


class ConsortiumStatus(StrictModel):
    """The state of a consortium at a glance; ``warnings`` in words for people."""

    consortium: str
    hospitals: tuple[HospitalStatus, ...]
    recipes: tuple[RecipeStatus, ...]
    warnings: tuple[str, ...] = ()

    def tables(self) -> list[Table]:
        """Return it as tables."""
        hospitals: list[list[Cell]] = [
            [
                h.hospital,
                h.uploads,
                h.refused,
                h.records,
                h.quarantined,
                " / ".join(map(str, h.parts.values())) if h.parts else None,
                h.profile,
            ]
            for h in self.hospitals
        ]
        recipes: list[list[Cell]] = [
            [
                r.recipe,
                r.version,
                len(r.hospitals) or None,
                r.rounds,
                None
                if r.mean_test_auroc is None
                else f"{r.mean_test_auroc:.3f} ({r.hospitals_behind_auroc})",
                r.erased_since,
            ]
            for r in self.recipes
        ]
        return [
            Table(
                f"Hospitals of {self.consortium}",
                [
                    "hospital",
                    "uploads",
                    "refused",
                    "records",
                    "quarantined",
                    "train/val/test",
                    "profile",
                ],
                hospitals,
            ),
            Table(
                "Recipes",
                [
                    "recipe",
                    "model version",
                    "hospitals",
                    "rounds",
                    "mean test AUROC (hospitals)",
                    "patient erased since",
                ],
                recipes,
            ),
        ]


def consortium_status(settings: Settings) -> ConsortiumStatus:
    """Return the state of the consortium, from the manifests and the registry's tags."""
    recipes = [_recipe(settings, name) for name in recipe_names(settings.recipes)]
    erased: dict[str, str] = {}
    warnings = []
    if any(recipe.version for recipe in recipes):
        try:
            registry = open_registry(settings)
            erased = erased_versions(registry)
            champion = registry.aliases().get(CHAMPION)
        except TrackingError as error:
            warnings.append(f"whether a model saw a patient erased since is not known: {error}")
        else:
            if champion in erased:
                warnings.append(
                    f"champion, version {champion}, was trained on data that held a patient who "
                    f"was erased on {erased[champion]}: `fla demo` trains and promotes one without"
                )
    return ConsortiumStatus(
        consortium=settings.consortium.name,
        hospitals=tuple(_hospital(settings, n) for n in settings.consortium.hospital_names),
        recipes=tuple(
            recipe.model_copy(update={"erased_since": erased.get(recipe.version or "")})
            for recipe in recipes
        ),
        warnings=tuple(warnings),
    )


def _hospital(settings: Settings, name: str) -> HospitalStatus:
    store = settings.listing_store(name)
    found = HospitalStatus(hospital=name)
    try:
        records = intake.load_manifest(store)
        counts = {
            "uploads": len(records.uploads),
            "refused": sum(upload.refused is not None for upload in records.uploads),
            "records": records.rows,
            "quarantined": records.counts.quarantined,
        }
        found = found.model_copy(update=counts)
        parts = {part: f.rows for part, f in partitions.load_manifest(store).files.items()}
        found = found.model_copy(update={"parts": parts})
        return found.model_copy(update={"profile": profile.load_profile(store).version})
    except ObjectNotFoundError:
        # The chain stops at the first thing that was never made.
        return found


def _recipe(settings: Settings, name: str) -> RecipeStatus:
    store = settings.coordinator_store()
    found = RecipeStatus(recipe=name)
    try:
        release = load_release(store, name)
        trained = {
            "version": release.version,
            "hospitals": tuple(release.hospitals),
            "rounds": len(release.rounds),
        }
        found = found.model_copy(update=trained)
        evaluation = load_evaluation(store, name)
        tested = {
            "mean_test_auroc": evaluation.mean(Metric.AUROC),
            "hospitals_behind_auroc": evaluation.behind(Metric.AUROC),
        }
        return found.model_copy(update=tested)
    except ObjectNotFoundError:
        return found

"""All recipes of the folder with what became of them; one that is wrong hides no other."""

from __future__ import annotations

from fl_assets.config import ConfigFileError, StrictModel
from fl_assets.coordinator.evaluation import evaluation_key, load_evaluation
from fl_assets.coordinator.training import is_current, load_release
from fl_assets.federation.recipe import SUFFIX, Recipe, load_recipe, recipe_names
from fl_assets.learning.metrics import Metric
from fl_assets.reporting.html import Table
from fl_assets.settings import Settings
from fl_assets.storage import ObjectNotFoundError


class CatalogueEntry(StrictModel):
    """One recipe; None where it has nothing yet.

    Attributes:
        name: the file's.
        recipe: None where the file is wrong.
        error: why it is.
        version: of its latest model in the registry.
        up_to_date: whether training now would give that model again.
        mean_test_auroc: of that model over the hospitals, weighted by test rows.
        hospitals_behind_auroc: over how many, since it does not exist where a class is absent.
    """

    name: str
    recipe: Recipe | None = None
    error: str | None = None
    version: str | None = None
    up_to_date: bool | None = None
    mean_test_auroc: float | None = None
    hospitals_behind_auroc: int | None = None


def catalogue(settings: Settings) -> list[CatalogueEntry]:
    """Return an entry for every recipe file, by name.

    Raises:
        ConfigFileError: the folder holds none.
    """
    return [_entry(settings, name) for name in recipe_names(settings.recipes)]


def _entry(settings: Settings, name: str) -> CatalogueEntry:
    try:
        recipe = load_recipe(settings.recipes / f"{name}{SUFFIX}")
    except ConfigFileError as error:
        return CatalogueEntry(name=name, error=str(error))
    store = settings.coordinator_store()
    try:
        release = load_release(store, name)
    except ObjectNotFoundError:
        return CatalogueEntry(name=name, recipe=recipe)
    found = CatalogueEntry(
        name=name,
        recipe=recipe,
        version=release.version,
        up_to_date=is_current(settings, recipe, release),
    )
    if not store.exists(evaluation_key(name)):
        return found
    evaluation = load_evaluation(store, name)
    if evaluation.version != release.version:
        return found
    tested = {
        "mean_test_auroc": evaluation.mean(Metric.AUROC),
        "hospitals_behind_auroc": evaluation.behind(Metric.AUROC),
    }
    return found.model_copy(update=tested)


def catalogue_table(entries: list[CatalogueEntry]) -> Table:
    """Return the recipes that fit as a table."""
    return Table(
        "Recipes; AUROC is the mean over the test rows of so many hospitals",
        [
            "recipe",
            "model",
            "strategy",
            "loss",
            "rounds x epochs",
            "personalisation",
            "privacy",
            "version",
            "AUROC (hospitals)",
            "up to date",
            "description",
        ],
        [_row(entry, entry.recipe) for entry in entries if entry.recipe is not None],
    )


def _privacy(recipe: Recipe) -> str | None:
    asked = [] if recipe.privacy is None else [f"epsilon {recipe.privacy.epsilon:g}"]
    if recipe.secure_aggregation is not None:
        asked.append("secure sums")
    return ", ".join(asked) or None


def _row(entry: CatalogueEntry, recipe: Recipe) -> list[str | None]:
    auroc, current = entry.mean_test_auroc, entry.up_to_date
    return [
        entry.name,
        recipe.model.kind,
        recipe.strategy.kind,
        recipe.loss.kind,
        f"{recipe.rounds} x {recipe.local_epochs}",
        None if recipe.personalisation is None else recipe.personalisation.kind,
        _privacy(recipe),
        entry.version,
        None if auroc is None else f"{auroc:.3f} ({entry.hospitals_behind_auroc})",
        None if current is None else ("yes" if current else "no"),
        recipe.description,
    ]

"""Two recipes' models on the same test rows: at each hospital, over all, and in words."""

from __future__ import annotations

from collections.abc import Iterable

from fl_assets.config import StrictModel
from fl_assets.coordinator.evaluation import ModelEvaluation, load_evaluation
from fl_assets.coordinator.release import ReleaseRecord
from fl_assets.coordinator.sites import sites_of
from fl_assets.coordinator.trained import released_model
from fl_assets.coordinator.training import load_release, ready_sites
from fl_assets.errors import FlAssetsError
from fl_assets.federation.job import load_result
from fl_assets.federation.recipe import require_recipe
from fl_assets.learning.metrics import Metric
from fl_assets.learning.paired import LOWER_IS_BETTER, PairedEvaluation, combine
from fl_assets.reporting.html import Cell, Table
from fl_assets.reporting.text import difference, of_hospitals
from fl_assets.settings import Settings
from fl_assets.site.comparison import SiteComparison, compare_rows
from fl_assets.site.model_data import ModelData
from fl_assets.site.pooling import pooled, simulated_stores
from fl_assets.site.tasks.models import CompareModels
from fl_assets.storage import ObjectNotFoundError, SiteStore

_NAMES = {
    Metric.AUROC: "AUROC",
    Metric.AUPRC: "AUPRC",
    Metric.BALANCED_ACCURACY: "balanced accuracy",
    Metric.SENSITIVITY_AT_80_SPECIFICITY: "sensitivity at 80 % specificity",
    Metric.BRIER: "Brier",
    Metric.ECE: "ECE",
}


class NotComparableError(FlAssetsError):
    """A model that cannot be compared, or not on these rows."""

    def __init__(self, recipe: str, why: str) -> None:
        super().__init__(f"{recipe} cannot be compared: {why}; run `fla run {recipe}` first")


class NoisedFiguresError(FlAssetsError):
    """A recipe whose figures leave the hospitals with noise alone."""

    def __init__(self, recipe: str) -> None:
        super().__init__(
            f"{recipe} has an evaluation_epsilon, so its figures leave the hospitals with noise, "
            "and a comparison row by row has none: compare the noised figures by `fla compare`"
        )


class RecipePair(StrictModel):
    """The models of two recipes on the same rows; every difference is b - a.

    Attributes:
        a, b: recipes.
        versions: of their models in the registry.
        sites: what each hospital computed on its own rows.
        mean: over the hospitals, from their figures alone; None where none has enough rows.
        pooled: on all test rows together; only in a simulation.
    """

    a: str
    b: str
    versions: tuple[str, str]
    sites: dict[str, SiteComparison]
    mean: PairedEvaluation | None
    pooled: PairedEvaluation | None


def compare_recipes(settings: Settings, a: str, b: str) -> RecipePair:
    """Compare the latest models of two recipes row by row.

    The rows stay at their hospitals, which answer with figures. Only a simulation may put them
    together.

    Raises:
        UnknownRecipeError: there is none of that name.
        NotComparableError: one was not trained, or its evaluation is of another model or of other
            rows than the hospitals' current ones.
        NoisedFiguresError: one has its figures noised.
        OutdatedModelError: one was trained with another preprocessor than the current one.
    """
    store = settings.coordinator_store()
    current = {name: manifest.version for name, manifest in ready_sites(settings).items()}
    releases = [_evaluated(settings, store, recipe, current) for recipe in (a, b)]
    first, second = (_model(store, release) for release in releases)
    run = "-against-".join(release.run for release in releases)
    request = CompareModels(run=run, a=first, b=second)
    sites = sites_of(settings).ask_all(dict.fromkeys(current, request))
    together = None
    if settings.consortium.simulated:
        stores = simulated_stores(settings, current)
        rows = pooled(settings.consortium, stores, "test")
        together = compare_rows(rows, first.trained, second.trained)
    return RecipePair(
        a=a,
        b=b,
        versions=(releases[0].version, releases[1].version),
        sites=sites,
        mean=combine(s.evaluation for s in sites.values() if s.evaluation is not None),
        pooled=together,
    )


def _evaluated(
    settings: Settings, store: SiteStore, recipe: str, current: dict[str, str]
) -> ReleaseRecord:
    """Return the release of a recipe whose evaluation is of it and of the current rows."""
    try:
        release = load_release(store, recipe)
        evaluation = load_evaluation(store, recipe)
    except ObjectNotFoundError:
        require_recipe(settings.recipes, recipe)
        raise NotComparableError(recipe, "it has no evaluated model") from None
    if evaluation.version != release.version:
        raise NotComparableError(recipe, f"version {release.version} was not evaluated")
    privacy = release.recipe.privacy
    if privacy is not None and privacy.evaluation_epsilon is not None:
        raise NoisedFiguresError(recipe)
    other = _on_other_rows(evaluation, current)
    if other:
        raise NotComparableError(recipe, f"it was evaluated on other rows at {', '.join(other)}")
    return release


def _on_other_rows(evaluation: ModelEvaluation, current: dict[str, str]) -> list[str]:
    seen = {name: site.partitions for name, site in evaluation.sites.items()}
    return sorted(n for n in seen.keys() | current.keys() if seen.get(n) != current.get(n))


def _model(store: SiteStore, release: ReleaseRecord) -> ModelData:
    return released_model(store, release, load_result(store, release.run))


def pair_tables(pair: RecipePair) -> list[Table]:
    """Return the metrics over all hospitals, and the AUROC at each of them."""
    tables = []
    if pair.pooled is not None:
        tables.append(_metrics_table(pair, pair.pooled, f"all {pair.pooled.n:,} test rows pooled"))
    elif pair.mean is not None:
        where = "mean over the hospitals that have the figure (k of n), weighted by test rows"
        tables.append(_metrics_table(pair, pair.mean, where))
    rows: list[list[Cell]] = []
    for name, site in pair.sites.items():
        rows.append(_hospital_row(name, site.evaluation))
    rows.append(_mean_row(pair))
    header = ["hospital", "test rows", "positives", pair.a, pair.b, "difference [95 %]"]
    tables.append(Table("AUROC at each hospital", header, rows))
    return tables


def _metrics_table(pair: RecipePair, found: PairedEvaluation, where: str) -> Table:
    rows: list[list[Cell]] = [
        [name + of_hospitals(m, len(pair.sites)), _figure(m.a), _figure(m.b), difference(m)]
        for metric, name in _NAMES.items()
        for m in [found.metrics[metric]]
    ]
    return Table(
        f"{pair.b} against {pair.a}, {where}; for Brier and ECE less is better",
        ["metric", pair.a, pair.b, "difference [95 %]"],
        rows,
    )


def _hospital_row(name: str, found: PairedEvaluation | None) -> list[Cell]:
    if found is None:
        return [name, None, None, None, None, "too few test rows"]
    return [name, found.n, found.positives, *_areas(found)]


def _mean_row(pair: RecipePair) -> list[Cell]:
    if pair.mean is None:
        return _hospital_row("mean", None)
    over = of_hospitals(pair.mean.metrics[Metric.AUROC], len(pair.sites))
    return [f"mean{over}", None, None, *_areas(pair.mean)]


def _areas(found: PairedEvaluation) -> tuple[str, str, str]:
    auroc = found.metrics[Metric.AUROC]
    return _figure(auroc.a), _figure(auroc.b), difference(auroc)


def _figure(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


def verdict(pair: RecipePair) -> str:
    """Return in words what the figures over all hospitals allow to say."""
    found = pair.pooled or pair.mean
    if found is None or found.metrics[Metric.AUROC].low is None:
        return "There are too few test rows to tell the two apart."
    auroc = found.metrics[Metric.AUROC]
    if auroc.distinguishable:
        better, worse = (pair.b, pair.a) if (auroc.difference or 0.0) > 0 else (pair.a, pair.b)
        said = f"{better} ranks patients better than {worse}"
    else:
        said = "The two cannot be told apart by how they rank patients on these rows"
    others = list(_other_differences(pair, found))
    also = f" Beyond the ranking: {'; '.join(others)}." if others else ""
    return f"{said}: AUROC {difference(auroc)}.{also}"


def _other_differences(pair: RecipePair, found: PairedEvaluation) -> Iterable[str]:
    for metric, name in _NAMES.items():
        one = found.metrics[metric]
        if metric != Metric.AUROC and one.distinguishable:
            up = (one.difference or 0.0) > 0
            better = pair.b if up != (metric in LOWER_IS_BETTER) else pair.a
            yield f"{better} has the better {name}"

"""Models at every hospital's test rows and, in a simulation, at all of them together."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from fl_assets.config import StrictModel
from fl_assets.coordinator import documents
from fl_assets.coordinator.release import ReleaseRecord
from fl_assets.coordinator.sites import sites_of
from fl_assets.coordinator.trained import released_model
from fl_assets.coordinator.training import load_release, ready_sites, validation_auroc
from fl_assets.federation.job import load_result
from fl_assets.learning.evaluation import Evaluation, evaluate
from fl_assets.learning.features import Preprocessor
from fl_assets.learning.metrics import Metric, weighted_mean
from fl_assets.learning.paired import PairedEvaluation
from fl_assets.privacy.noised_counts import Noised
from fl_assets.settings import Settings
from fl_assets.site.evaluation import Scorer, SiteEvaluation, evaluate_model, labels
from fl_assets.site.pooling import pooled, simulated_stores
from fl_assets.site.tasks.models import EvaluateModel
from fl_assets.storage import SiteStore
from fl_assets.tracking.runs import Tracking


class ModelEvaluation(StrictModel):
    """One model, evaluated at the hospitals.

    Attributes:
        model: its name in tables.
        version: in the registry, None for a baseline.
        validation_auroc: mean over hospitals on validation rows, by which candidates are chosen.
        sites: by hospital.
        pooled: on all test rows together; only in a simulation, and not of a model whose figures
            are noised.
    """

    model: str
    version: str | None = None
    validation_auroc: float | None = None
    sites: dict[str, SiteEvaluation]
    pooled: Evaluation | None

    @property
    def fingerprint(self) -> str:
        """Content hash, 16 hex digits."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]

    def mean(self, metric: str) -> float | None:
        """Return a metric's mean over the hospitals where it exists, weighted by test rows."""
        return weighted_mean(
            [
                (getattr(site.evaluation, metric), site.evaluation.n)
                for site in self.sites.values()
                if site.evaluation is not None
            ]
        )

    def behind(self, metric: str) -> int:
        """Return at how many hospitals a metric exists, over which :meth:`mean` is taken."""
        found = [site.evaluation for site in self.sites.values() if site.evaluation is not None]
        return sum(getattr(evaluation, metric) is not None for evaluation in found)

    @property
    def gain_over_age_only(self) -> float | None:
        """Mean AUROC minus the AUROC of age alone, over hospitals where both exist."""
        return weighted_mean(
            [
                (site.evaluation.auroc - site.age_only_auroc, site.evaluation.n)
                for site in self.sites.values()
                if site.evaluation is not None
                and site.evaluation.auroc is not None
                and site.age_only_auroc is not None
            ]
        )

    @property
    def noised(self) -> Noised | None:
        """The noise in every hospital's figures, None where there is none."""
        return next((site.noised for site in self.sites.values() if site.noised), None)

    @property
    def personal(self) -> dict[str, PairedEvaluation]:
        """The model (a) beside a hospital's own (b), by hospital that has one."""
        found = {name: site.personal for name, site in self.sites.items()}
        return {name: pair for name, pair in found.items() if pair is not None}


def evaluation_key(recipe: str) -> str:
    """Where the evaluation of a recipe's latest model is in the coordinator's store."""
    return f"evaluations/{recipe}.json"


def load_evaluation(store: SiteStore, recipe: str) -> ModelEvaluation:
    """Return the evaluation of a recipe's latest model.

    Raises:
        ObjectNotFoundError: it was never evaluated.
    """
    return documents.load(store, evaluation_key(recipe), ModelEvaluation)


def evaluate_everywhere(settings: Settings, name: str, request: EvaluateModel) -> ModelEvaluation:
    """Evaluate a model at every hospital and, in a simulation, on the pooled test rows.

    The hospitals' figures are computed at the hospitals; only aggregates come back. There are no
    pooled figures of a model whose recipe wants noise.

    Args:
        settings: consortium and stores.
        name: of the model, in tables.
        request: what every hospital is asked.

    Raises:
        BudgetExceededError, LedgerDamagedError: a hospital cannot pay for noised figures. Those
            that it was asked before have theirs stored, and are not charged again.
        OtherCohortError: a hospital has another cohort than the model.
    """
    hospitals = ready_sites(settings)
    sites = sites_of(settings).ask_all(dict.fromkeys(hospitals, request))
    together = None
    noised = request.privacy is not None and request.privacy.evaluation_epsilon is not None
    if settings.consortium.simulated and not noised:
        stores = simulated_stores(settings, hospitals)
        model = request.model.trained
        together = evaluate_pooled(
            settings, stores, model.preprocessor, model.scorer, model.threshold
        )
    return ModelEvaluation(model=name, sites=sites, pooled=together)


def evaluate_simulated(
    settings: Settings,
    name: str,
    preprocessor: Preprocessor,
    scorer: Scorer,
    *,
    threshold: float | None,
    run: str,
) -> ModelEvaluation:
    """Demo only: evaluate a model that is no network, at every hospital and on pooled test rows.

    Args:
        settings: consortium and stores.
        name: of the model, in tables.
        preprocessor: makes its features.
        scorer: the model.
        threshold: its operating point.
        run: who asks, for the hospitals' egress logs.

    Raises:
        NotSimulatedError: the consortium is real.
    """
    stores = simulated_stores(settings, ready_sites(settings))
    sites = {
        hospital: evaluate_model(
            store,
            preprocessor,
            scorer,
            threshold=threshold,
            minimum=settings.consortium.minimum_cell,
            run=run,
        )
        for hospital, store in stores.items()
    }
    together = evaluate_pooled(settings, stores, preprocessor, scorer, threshold)
    return ModelEvaluation(model=name, sites=sites, pooled=together)


def evaluate_pooled(
    settings: Settings,
    stores: Mapping[str, SiteStore],
    preprocessor: Preprocessor,
    scorer: Scorer,
    threshold: float | None,
) -> Evaluation | None:
    """Evaluate a model on the test rows of all simulated hospitals together; None without any.

    Raises:
        NotSimulatedError: the consortium is real.
    """
    frame = pooled(settings.consortium, stores, "test")
    if frame.empty:
        return None
    y = labels(frame, preprocessor.cohort)
    scores = scorer(preprocessor.transform(frame))
    return evaluate(y, scores, threshold, settings.consortium.minimum_cell)


def evaluate_release(settings: Settings, recipe: str) -> ModelEvaluation:
    """Evaluate the latest model of a recipe and store the outcome.

    Raises:
        ObjectNotFoundError: the recipe was never trained.
        OutdatedModelError: the preprocessor is not the one it was trained with.
    """
    store = settings.coordinator_store()
    release = load_release(store, recipe)
    result = load_result(store, release.run)
    request = EvaluateModel(
        run=release.run,
        model=released_model(store, release, result),
        personal=release.recipe.personalisation is not None,
        privacy=release.recipe.privacy,
    )
    found = evaluate_everywhere(settings, recipe, request)
    chosen_by = {
        "version": release.version,
        "validation_auroc": validation_auroc(result.history),
    }
    found = found.model_copy(update=chosen_by)
    documents.save(store, evaluation_key(recipe), found)
    return found


def log_evaluation(settings: Settings, recipe: str, found: ModelEvaluation) -> ReleaseRecord:
    """Add the test figures to the model's MLflow run: the mean and each hospital's.

    Returns:
        The release whose run it is.

    Raises:
        TrackingError: MLflow could not be reached.
    """
    release = load_release(settings.coordinator_store(), recipe)
    figures = {f"test/{metric}": found.mean(metric) for metric in _LOGGED}
    figures["test/hospitals_behind_auroc"] = float(found.behind(Metric.AUROC))
    for name, site in found.sites.items():
        if site.evaluation is not None:
            figures |= {f"{name}/test/{m}": getattr(site.evaluation, m) for m in _LOGGED}
    for name, pair in found.personal.items():
        figures[f"{name}/test/personal_auroc"] = pair.metrics[Metric.AUROC].b
    tracking = Tracking(settings.tracking_uri, settings.consortium.name)
    tracking.log(release.mlflow_run, metrics=figures)
    return release


_LOGGED = (
    Metric.AUROC,
    Metric.AUPRC,
    Metric.SENSITIVITY_AT_80_SPECIFICITY,
    Metric.SENSITIVITY,
    Metric.SPECIFICITY,
    Metric.ACCURACY,
    Metric.MAJORITY_RATE,
    Metric.BRIER,
    Metric.ECE,
)

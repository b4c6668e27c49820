"""One federated training, from recipe to registered model version with its release record."""

from __future__ import annotations

from collections.abc import Mapping

import fl_assets
from fl_assets.coordinator import documents
from fl_assets.coordinator.attempts import new_run_name, run_name, save_attempt
from fl_assets.coordinator.guarantee import guarantee
from fl_assets.coordinator.preprocessors import load_preprocessors
from fl_assets.coordinator.release import FILE, ReleaseRecord, RoundRecord
from fl_assets.errors import BadDataError, FlAssetsError
from fl_assets.federation.job import FederationHistory, FederationJob, FederationResult, load_result
from fl_assets.federation.mlflow_rounds import replay
from fl_assets.federation.recipe import Recipe
from fl_assets.federation.runtimes.base import Runtime
from fl_assets.federation.witnesses import load_witnesses, save_witness
from fl_assets.learning.features import Preprocessor
from fl_assets.learning.metrics import weighted_mean
from fl_assets.settings import Settings
from fl_assets.site.partitions import PartitionManifest, load_manifest
from fl_assets.storage import ObjectNotFoundError, SiteStore
from fl_assets.tracking.models import Registry, log_model
from fl_assets.tracking.runs import Tracking


class NoSiteReadyError(FlAssetsError):
    """Fewer hospitals than the quorum have partitions."""


def release_key(recipe: str) -> str:
    """Where the release record of a recipe's latest model is in the coordinator's store."""
    return f"releases/{recipe}.json"


def load_release(store: SiteStore, recipe: str) -> ReleaseRecord:
    """Return the release record of a recipe's latest model.

    Raises:
        ObjectNotFoundError: the recipe was never trained.
    """
    return documents.load(store, release_key(recipe), ReleaseRecord)


def ready_sites(settings: Settings) -> dict[str, PartitionManifest]:
    """Return the partition manifest of every hospital that has one."""
    ready = {}
    for name in settings.consortium.hospital_names:
        try:
            ready[name] = load_manifest(settings.listing_store(name))
        except ObjectNotFoundError:
            continue
    return ready


def training_sites(settings: Settings) -> dict[str, PartitionManifest]:
    """Return the partition manifest of every hospital that has a training row.

    One with so few patients that none of them fell into that part is evaluated like the others.
    """
    ready = ready_sites(settings)
    return {name: manifest for name, manifest in ready.items() if manifest.files["train"].rows}


def train(
    settings: Settings,
    recipe: Recipe,
    runtime: Runtime,
    tags: Mapping[str, str],
    *,
    fresh: bool = False,
) -> ReleaseRecord:
    """Train a recipe at every hospital that has training rows, and register the model.

    A run is named by what goes into it. Where a run of the same name finished before, its stored
    result and its registered version are used again: doing it twice gives nothing new, or would
    charge the hospitals' patients twice, and an MLflow that was down costs no second training. One
    that was interrupted goes on from its last checkpoint.

    Args:
        settings: consortium and stores.
        recipe: what to train.
        runtime: where.
        tags: for the MLflow run, such as the Dagster run id.
        fresh: begin at the first round and register a new version, whatever an earlier run left.
            A private recipe draws new noise then and is charged anew.

    Raises:
        NoSiteReadyError: fewer hospitals than the quorum have training rows.
        FederationError: the training failed.
        TrackingError: MLflow could not be reached; the result is kept.
    """
    sites = training_sites(settings)
    if not sites or len(sites) < (recipe.quorum or 1):
        raise NoSiteReadyError(
            f"recipe {recipe.name} needs {recipe.quorum or 1} hospitals with training rows, "
            f"{len(sites)} have them: materialise hospital_partitions"
        )
    store = settings.coordinator_store()
    preprocessor = load_preprocessors(store).of(recipe)
    before = run = run_name(store, recipe, preprocessor, sites)
    if fresh:
        run = new_run_name(store, recipe, preprocessor, sites, tags.get("dagster.run_id"))
    tracking = Tracking(settings.tracking_uri, settings.consortium.name)
    registry = Registry(tracking, settings.model_name)

    known = None if fresh else _registered_before(store, registry, run)
    if known is not None:
        documents.save(store, release_key(recipe.name), known)
        return known

    with tracking.run(run, {"fla.recipe": recipe.name, **tags}) as mlflow_run:
        tracking.log(mlflow_run, params=_params(recipe, preprocessor, sites))
        for name, manifest in sites.items():
            tracking.log_dataset(
                mlflow_run, name, manifest.version, manifest.rows, settings.site_uri(name)
            )
        job = FederationJob(
            run=run,
            recipe=recipe,
            preprocessor=preprocessor,
            sites={name: settings.site_uri(name) for name in sites},
            output=settings.coordinator_uri,
            tracking_uri=settings.tracking_uri,
            mlflow_run=mlflow_run,
            progress=True,
            metrics_port=settings.metrics_port,
            resume=not fresh,
            witnesses=load_witnesses(store, sites),
            access={name: settings.site_access(name) for name in sites},
            budgets={name: settings.consortium.budget(name) for name in sites},
        )
        result = None if fresh else _stored_result(store, run)
        if result is None:
            try:
                result = runtime.run(job)
            except BadDataError:
                # Refused for good: the recipe stands for the run that it stood for.
                save_attempt(store, recipe, preprocessor, sites, before)
                raise
        else:
            # This MLflow run was not there to be told of the rounds as they ended.
            replay(result.history, settings.tracking_uri, mlflow_run)
        for name, report in result.history.final.items():
            if report.privacy is not None:
                save_witness(store, name, report.privacy.head)
        release = _register(registry, mlflow_run, job, result, sites)
    documents.save(store, f"runs/{run}/{FILE}", release)
    documents.save(store, release_key(recipe.name), release)
    return release


def is_current(settings: Settings, recipe: Recipe, release: ReleaseRecord) -> bool:
    """Tell whether a release is what training the recipe on today's partitions would give."""
    store = settings.coordinator_store()
    preprocessor = load_preprocessors(store).of(recipe)
    return release.run == run_name(store, recipe, preprocessor, training_sites(settings))


def _registered_before(store: SiteStore, registry: Registry, run: str) -> ReleaseRecord | None:
    try:
        release = documents.load(store, f"runs/{run}/{FILE}", ReleaseRecord)
    except ObjectNotFoundError:
        return None
    return release if registry.has(release.version, release.mlflow_run) else None


def _stored_result(store: SiteStore, run: str) -> FederationResult | None:
    try:
        return load_result(store, run)
    except ObjectNotFoundError:
        return None


def _params(
    recipe: Recipe, preprocessor: Preprocessor, sites: Mapping[str, PartitionManifest]
) -> dict[str, object]:
    params: dict[str, object] = {}
    for name, value in recipe.model_dump(exclude={"name", "description"}).items():
        if isinstance(value, dict):
            params |= {f"{name}.{key}": item for key, item in value.items()}
        else:
            params[name] = value
    return params | {
        "recipe_hash": recipe.hash,
        "preprocessor_version": preprocessor.version,
        "contract": preprocessor.cohort.version,
        **{f"partitions.{name}": manifest.version for name, manifest in sites.items()},
    }


def operating_threshold(history: FederationHistory, prevalence: float) -> float:
    """Return the threshold that ships with the model.

    The mean of the thresholds that the sites chose for 80 % specificity on validation rows,
    weighted by those rows. Where no site tells one, as under differential privacy, it is the
    cohort's public prevalence: whoever is above the average risk.
    """
    chosen = weighted_mean([(r.threshold, r.examples) for r in history.final.values()])
    return prevalence if chosen is None else chosen


def _register(
    registry: Registry,
    mlflow_run: str,
    job: FederationJob,
    result: FederationResult,
    sites: Mapping[str, PartitionManifest],
) -> ReleaseRecord:
    recipe, history = job.recipe, result.history
    statements = {n: r.privacy for n, r in history.final.items() if r.privacy is not None}
    threshold = operating_threshold(history, job.preprocessor.cohort.label.prevalence)
    tracking = registry.tracking
    uri = log_model(tracking, mlflow_run, result.weights, recipe.model, job.preprocessor, threshold)
    version = registry.register(
        mlflow_run,
        uri,
        {
            "recipe": recipe.name,
            "run": job.run,
            "rounds": str(len(history.rounds)),
            "participants": str(len(history.participants)),
            "dropouts": str(sum(len(r.dropouts) for r in history.rounds)),
        },
    )
    release = ReleaseRecord(
        model=registry.name,
        version=version,
        run=job.run,
        mlflow_run=mlflow_run,
        code_version=fl_assets.__version__,
        recipe=recipe,
        recipe_hash=recipe.hash,
        contract=job.preprocessor.cohort.version,
        preprocessor=job.preprocessor.version,
        hospitals={name: sites[name] for name in sorted(history.participants)},
        rounds=tuple(
            RoundRecord(round=r.round, participants=tuple(sorted(r.sites)), dropouts=r.dropouts)
            for r in history.rounds
        ),
        threshold=threshold,
        validation={name: report.auroc for name, report in history.final.items()},
        privacy=guarantee(recipe, statements),
        spending=statements,
    )
    tracking.client.log_text(mlflow_run, release.model_dump_json(indent=2), FILE)
    tracking.log(
        mlflow_run,
        metrics={
            "threshold": threshold,
            "final_validation_auroc": validation_auroc(history),
            **{f"{name}/epsilon": s.epsilon for name, s in statements.items()},
            **{f"{name}/lifetime_epsilon": s.lifetime for name, s in statements.items()},
        },
    )
    return release


def validation_auroc(history: FederationHistory) -> float | None:
    """Return the last model's mean AUROC over the hospitals, weighted by validation rows."""
    return weighted_mean([(r.auroc, r.examples) for r in history.final.values()])


def load_history(store: SiteStore, release: ReleaseRecord) -> FederationHistory:
    """Return the round history of a release.

    Raises:
        ObjectNotFoundError: the run's folder was removed.
    """
    return documents.load(store, f"runs/{release.run}/history.json", FederationHistory)

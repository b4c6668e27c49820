"""The main job: everything from raw data to the champion, doing only what is not up to date."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import dagster as dg

from fl_assets.definitions import build
from fl_assets.defs.outside import EGRESS, LEDGER, UPLOADS, inputs_changed, moved_on
from fl_assets.defs.partitions import sync_hospitals
from fl_assets.defs.staleness import Staleness
from fl_assets.errors import FlAssetsError
from fl_assets.federation.recipe import require_recipe, routine_names
from fl_assets.federation.runtimes.base import KubernetesConfig, build_runtime
from fl_assets.federation.sweep import require_sweep
from fl_assets.settings import Settings

_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
# Cheap to read again, and the only assets whose input Dagster cannot see: a file and the recipes.
_ALWAYS = {"raw_dataset", "recipe"}


class NotReadyError(FlAssetsError):
    """What a recipe or a sweep builds on was never made."""

    def __init__(self, asset: str) -> None:
        super().__init__(f"{asset} was never materialised: run `fla demo` first")


class StepFailedError(FlAssetsError):
    """A step of the main job failed, so the job did."""

    def __init__(self, step: Step, reason: str) -> None:
        where = f" of {step.partition}" if step.partition else ""
        super().__init__(f"{' + '.join(step.assets)}{where} failed: {reason}")


@dataclass(frozen=True)
class Step:
    """Assets that one run materialises, for one partition or none.

    Attributes:
        assets: in the order of the graph.
        partition: a hospital or a recipe.
        of_hospital: whether it is a hospital's.
    """

    assets: tuple[str, ...]
    partition: str | None = None
    of_hospital: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of a step.

    Attributes:
        step: which.
        materialised: assets that were stale and are not any more.
        seconds: the run took, 0 if there was nothing to do.
        failure: why a hospital or a recipe failed, which does not hold up the others.
    """

    step: Step
    materialised: tuple[str, ...]
    seconds: float
    failure: str | None = None

    @property
    def status(self) -> Literal["materialised", "up to date", "failed"]:
        """What to tell a person."""
        if self.failure is not None:
            return "failed"
        return "materialised" if self.materialised else "up to date"


def prepare_dagster_home(settings: Settings) -> Path:
    """Create ``DAGSTER_HOME`` in the data folder, unless the environment names another.

    Returns:
        The folder, with this project's ``dagster.yaml`` in it if it had none.
    """
    # Its owner's alone: in a simulation the data folder holds every hospital's rows.
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    home = Path(os.environ.setdefault("DAGSTER_HOME", str(settings.home / "dagster")))
    write_dagster_yaml(home)
    return home


def write_dagster_yaml(folder: Path) -> None:
    """Put this project's ``dagster.yaml`` into a folder that has none; creates the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "dagster.yaml"
    if not target.exists():
        with resources.as_file(resources.files("fl_assets.defs") / "dagster.yaml") as source:
            shutil.copyfile(source, target)


def plan(settings: Settings) -> Iterator[Step]:
    """Return the steps of the main job in order: one hospital is one run."""
    simulated = settings.consortium.simulated
    if simulated:
        yield Step(("raw_dataset",))
        yield Step(("validated_dataset",))
    at_hospital = ("hospital_records", "hospital_partitions", "hospital_profile", "local_baseline")
    for name in settings.consortium.hospital_names:
        dealt = (UPLOADS,) if simulated else ()
        yield Step((*dealt, *at_hospital), name, of_hospital=True)
    yield Step(("preprocessor",))
    if simulated:
        yield Step(("centralized_baseline",))
    yield from training(settings, routine_names(settings.recipes, settings.consortium.routine))
    yield Step(("champion_model",))


def training(settings: Settings, recipes: Iterable[str]) -> Iterator[Step]:
    """Return the steps from recipe files to the comparison, and to what left each hospital."""
    for recipe in recipes:
        yield Step(("recipe",), recipe)
        yield Step(("federated_model", "federated_evaluation", "membership_audit"), recipe)
    yield Step(("model_comparison",))
    # Last, and in this order: a comparison asks the hospitals too, and showing the ledger is an
    # entry of the other log.
    for name in settings.consortium.hospital_names:
        yield Step((LEDGER, EGRESS), name, of_hospital=True)


def run(
    settings: Settings,
    instance: dg.DagsterInstance,
    before: Callable[[Step], None] = lambda _step: None,
) -> Generator[Outcome, None, None]:
    """Run the main job step by step.

    Args:
        settings: of the checkout.
        instance: where Dagster records runs; its UI shows them.
        before: is told of a step that has something to do, before it is run.

    Yields:
        Each step's outcome as it ends.

    Raises:
        StepFailedError: a step failed that the later ones build on; or, at the end, a hospital's
            or a recipe's did. What was done stays, and the next run goes on from there.
    """
    yield from _run(settings, instance, plan(settings), before)


def run_recipes(
    settings: Settings,
    instance: dg.DagsterInstance,
    recipes: Sequence[str],
    before: Callable[[Step], None] = lambda _step: None,
    *,
    fresh: bool = False,
    force: bool = False,
) -> Generator[Outcome, None, None]:
    """Train, evaluate and audit recipes on what the main job has made, and compare all models.

    Args:
        settings: of the checkout.
        instance: where Dagster records runs.
        recipes: names.
        before: is told of a step that has something to do, before it is run.
        fresh: begin every training at its first round and register a new version.
        force: train also what is up to date, from its first round.

    Yields:
        Each step's outcome as it ends.

    Raises:
        UnknownRecipeError: a name is not in the folder; nothing was done.
        NotReadyError: the main job never got as far as the recipes; nothing was done.
        UnknownRuntimeError: the settings name none; nothing was done.
        StepFailedError: at the end, if a recipe failed.
    """
    for name in recipes:
        require_recipe(settings.recipes, name)
    _require(instance, "preprocessor")
    if settings.consortium.simulated:
        _require(instance, "centralized_baseline")
    # A wrong name ends it here, where Dagster would try each recipe three times.
    build_runtime(settings.runtime, kubernetes=lambda: KubernetesConfig.of(settings))
    config = {"federated_model": {"config": {"fresh": fresh or force}}}
    yield from _run(settings, instance, training(settings, recipes), before, config, force=force)


def run_sweep(
    settings: Settings, instance: dg.DagsterInstance, sweep: str, *, fresh: bool = False
) -> None:
    """Run a sweep on what the main job has made.

    Args:
        settings: of the checkout.
        instance: where Dagster records runs.
        sweep: its name.
        fresh: forget the trials that are stored.

    Raises:
        UnknownRecipeError: the name is not in the folder.
        NotReadyError: the main job never got as far as the recipes.
        StepFailedError: the sweep failed.
    """
    require_sweep(settings.recipes, sweep)
    _require(instance, "preprocessor")
    step = Step(("recipe_sweep",), sweep)
    config = {"recipe_sweep": {"config": {"fresh": fresh}}}
    job = build(settings).resolve_implicit_global_asset_job_def()
    reason = _materialise(job, instance, step, config)
    if reason is not None:
        raise StepFailedError(step, reason)


def _require(instance: dg.DagsterInstance, asset: str) -> None:
    if instance.get_latest_materialization_event(dg.AssetKey(asset)) is None:
        raise NotReadyError(asset)


def _run(
    settings: Settings,
    instance: dg.DagsterInstance,
    steps: Iterable[Step],
    before: Callable[[Step], None],
    config: Mapping[str, Any] | None = None,
    *,
    force: bool = False,
) -> Generator[Outcome, None, None]:
    definitions = build(settings)
    sync_hospitals(instance, settings.consortium)
    job = definitions.resolve_implicit_global_asset_job_def()
    staleness = Staleness(instance, definitions)
    failed: dict[tuple[bool, str | None], StepFailedError] = {}
    for step in steps:
        # A hospital and a recipe may have one name.
        who = (step.of_hospital, step.partition)
        if who in failed:
            continue
        # The comparison follows from what it compares, so there is nothing to force.
        forced = force and step.partition is not None and not step.of_hospital
        stale = step.assets if forced else _stale(settings, instance, step, staleness)
        if not stale:
            yield Outcome(step, (), 0.0)
            continue
        before(step)
        started = time.perf_counter()
        reason = _materialise(job, instance, Step(stale, step.partition), config or {})
        yield Outcome(step, stale if reason is None else (), time.perf_counter() - started, reason)
        if reason is not None:
            failed[who] = StepFailedError(step, reason)
            # One bad hospital or recipe must not hold up the others.
            if step.partition is None:
                raise failed[who]
    for failure in failed.values():
        raise failure


def _stale(
    settings: Settings, instance: dg.DagsterInstance, step: Step, staleness: Staleness
) -> tuple[str, ...]:
    """Return the assets of a step from the first stale one on: the later ones build on it."""
    for place, asset in enumerate(step.assets):
        if (
            asset in _ALWAYS
            or not staleness.is_fresh(asset, step.partition)
            or (step.of_hospital and moved_on(instance, settings, asset, str(step.partition)))
            or inputs_changed(settings, asset, step.partition)
        ):
            return step.assets[place:]
    return ()


def _materialise(
    job: dg.JobDefinition, instance: dg.DagsterInstance, step: Step, config: Mapping[str, Any]
) -> str | None:
    """Run a step, its assets configured by name; return why it failed, or None."""
    ops = {asset: config[asset] for asset in step.assets if asset in config}
    result = job.execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey(asset) for asset in step.assets],
        partition_key=step.partition,
        run_config={**_QUIET, "ops": ops},
        raise_on_error=False,
    )
    return None if result.success else _reason(result)


def _reason(result: dg.ExecuteInProcessResult) -> str:
    for event in result.all_events:
        if event.is_step_failure:
            data = event.step_failure_data
            if data.user_failure_data and data.user_failure_data.description:
                return data.user_failure_data.description
            return data.error.message if data.error else "no reason given"
    for check in result.get_asset_check_evaluations():
        if not check.passed and check.severity == dg.AssetCheckSeverity.ERROR:
            found = {name: value.value for name, value in check.metadata.items()}
            return f"check {check.check_name} of {check.asset_key.to_user_string()}: {found}"
    return "see the run in Dagster's UI (`make dev`)"

"""The main job: everything from raw data to the champion, doing only what is not up to date."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

import dagster as dg

from fl_assets.definitions import build
from fl_assets.defs.outside import moved_on
from fl_assets.defs.partitions import sync_hospitals
from fl_assets.defs.staleness import Staleness
from fl_assets.errors import FlAssetsError
from fl_assets.federation.recipe import recipe_names
from fl_assets.settings import Settings

_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
# Cheap to read again, and the only assets whose input Dagster cannot see: a file and the recipes.
_ALWAYS = {"raw_dataset", "recipe"}


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
        dealt = ("hospital_uploads",) if simulated else ()
        yield Step((*dealt, *at_hospital), name, of_hospital=True)
    yield Step(("preprocessor",))
    if simulated:
        yield Step(("centralized_baseline",))
    for recipe in recipe_names(settings.recipes):
        yield Step(("recipe",), recipe)
        yield Step(("federated_model", "federated_evaluation"), recipe)
    yield Step(("model_comparison",))
    yield Step(("champion_model",))


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
    definitions = build(settings)
    sync_hospitals(instance, settings.consortium)
    job = definitions.resolve_implicit_global_asset_job_def()
    staleness = Staleness(instance, definitions)
    failed: dict[tuple[bool, str | None], StepFailedError] = {}
    for step in plan(settings):
        # A hospital and a recipe may have one name.
        who = (step.of_hospital, step.partition)
        if who in failed:
            continue
        stale = _stale(settings, instance, step, staleness)
        if not stale:
            yield Outcome(step, (), 0.0)
            continue
        before(step)
        started = time.perf_counter()
        reason = _materialise(job, instance, Step(stale, step.partition))
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
        ):
            return step.assets[place:]
    return ()


def _materialise(job: dg.JobDefinition, instance: dg.DagsterInstance, step: Step) -> str | None:
    """Run a step; return why it failed, or None."""
    result = job.execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey(asset) for asset in step.assets],
        partition_key=step.partition,
        run_config=_QUIET,
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

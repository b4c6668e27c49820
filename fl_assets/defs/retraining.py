"""The sensor that asks for new trainings as the consortium's policy says."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg

from fl_assets.defs.common import COORDINATOR
from fl_assets.defs.resources import Platform
from fl_assets.defs.runs import UNFINISHED
from fl_assets.errors import FlAssetsError
from fl_assets.settings import Settings

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import (
        UnresolvedAssetJobDefinition,
    )

    from fl_assets.coordinator.retraining import Allowance, Trained, Verdict
    from fl_assets.federation.recipe import Recipe

RETRAINING_TAG = "fl/retraining"
# Of a tick, which Dagster ends after 60 s.
TICK_SECONDS = 20.0


class NoPolicyError(FlAssetsError):
    """The policy was taken out of ``consortium.yaml``."""

    def __init__(self) -> None:
        super().__init__("consortium.yaml has no `retraining` policy any more: add one, or reload")


def retraining_sensor(job: UnresolvedAssetJobDefinition, seconds: int) -> dg.SensorDefinition:
    """Return the sensor that looks at the policy every so many seconds."""

    @dg.sensor(
        name="retraining_policy",
        job=job,
        minimum_interval_seconds=seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        owners=COORDINATOR,
        description="Trains a routine recipe anew when the policy in consortium.yaml says so: "
        "enough new rows or an old model, enough hospitals ready, budget left. A tick that trains "
        "nothing says why each recipe waits.",
    )
    def retraining_policy(
        context: dg.SensorEvaluationContext, platform: Platform
    ) -> dg.SensorResult | dg.SkipReason:
        try:
            verdicts = judge_recipes(platform.settings)
        except FlAssetsError as error:
            return dg.SkipReason(f"no recipe could be looked at: {error}")
        requests, notes = _requests(context.instance, job.name, verdicts)
        for note in notes:
            context.log.info(note)
        if requests:
            return dg.SensorResult(run_requests=requests)
        return dg.SkipReason("; ".join(notes))

    return retraining_policy


def judge_recipes(settings: Settings) -> list[tuple[Recipe, Verdict]]:
    """Return the verdict on every routine recipe.

    Raises:
        FlAssetsError: the consortium, a recipe or the coordinator's store cannot be read.
    """
    from fl_assets.coordinator.polling import poll
    from fl_assets.coordinator.readiness import HospitalState, hospital_state
    from fl_assets.coordinator.retraining import decide
    from fl_assets.federation.recipe import SUFFIX, load_recipe, routine_names

    consortium = settings.consortium
    if consortium.retraining is None:
        raise NoPolicyError
    names = consortium.hospital_names
    polled = poll(names, lambda name: hospital_state(settings.listing_store(name)), TICK_SECONDS)
    lost = dict.fromkeys(polled.not_asked, "no time was left for it") | polled.failures
    hospitals = {
        name: polled.answers[name]
        if name in polled.answers
        else HospitalState(hold=lost[name], reachable=False)
        for name in names
    }
    allowances = {name: _allowance(settings, name) for name in names}
    found = []
    for name in routine_names(settings.recipes, consortium.routine):
        recipe = load_recipe(settings.recipes / f"{name}{SUFFIX}")
        trained = _trained(settings, name)
        now = datetime.now(UTC)
        verdict = decide(consortium.retraining, recipe, hospitals, trained, allowances, now)
        found.append((recipe, verdict))
    return found


def _allowance(settings: Settings, hospital: str) -> Allowance:
    from fl_assets.coordinator.budget import open_ledger
    from fl_assets.coordinator.retraining import Allowance
    from fl_assets.privacy.ledger_view import hospital_budget

    budget = settings.consortium.budget(hospital)
    return Allowance(
        lambda: hospital_budget(open_ledger(settings, hospital), hospital, budget).left,
        budget.unprotected_runs,
    )


def _trained(settings: Settings, recipe: str) -> Trained | None:
    from fl_assets.coordinator.release import FILE
    from fl_assets.coordinator.retraining import Trained
    from fl_assets.coordinator.training import load_release
    from fl_assets.storage import ObjectNotFoundError

    store = settings.coordinator_store()
    try:
        release = load_release(store, recipe)
    except ObjectNotFoundError:
        return None
    # The record of the run is written once; the one of the recipe whenever it is used again.
    (record,) = store.list(f"runs/{release.run}/{FILE}")
    return Trained(
        recipe=release.recipe_hash,
        versions={name: made.version for name, made in release.hospitals.items()},
        rows={name: made.files["train"].rows for name, made in release.hospitals.items()},
        when=record.modified,
    )


def _requests(
    instance: dg.DagsterInstance, job: str, verdicts: list[tuple[Recipe, Verdict]]
) -> tuple[list[dg.RunRequest], list[str]]:
    """Runs to ask for, and a note on every recipe."""
    open_runs = instance.get_runs(dg.RunsFilter(job_name=job, statuses=UNFINISHED))
    training = {run.tags.get("dagster/partition", "") for run in open_runs}
    private = next((r.name for r, _ in verdicts if r.privacy and r.name in training), None)
    requests, notes = [], []
    for recipe, verdict in verdicts:
        note = verdict.why
        earlier = instance.get_runs(dg.RunsFilter(tags={RETRAINING_TAG: verdict.key}), limit=1)
        if recipe.name in training:
            note = f"{recipe.name} is being trained"
        elif verdict.train and earlier:
            run = earlier[0]
            note = (
                f"{recipe.name} waits: these data were asked for in run {run.run_id}, which is "
                f"{run.status.value}: see it, and launch it again by hand if need be"
            )
        elif verdict.train and recipe.privacy and private:
            # Two that look at one budget at the same time could each find enough for itself.
            note = f"{recipe.name} waits: {private} goes first, both spend the same budgets"
        elif verdict.train:
            requests.append(
                dg.RunRequest(
                    run_key=verdict.key,
                    partition_key=recipe.name,
                    tags={RETRAINING_TAG: verdict.key},
                )
            )
            if recipe.privacy:
                private = recipe.name
        notes.append(note)
    return requests, notes

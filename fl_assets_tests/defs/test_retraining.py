"""The retraining sensor asks once for what the policy says, and tells why the rest waits."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import dagster as dg
import yaml

from fl_assets.definitions import build
from fl_assets.defs.resources import Platform
from fl_assets.settings import Settings
from fl_assets_tests.coordinator.test_readiness import block

RETRAINING = {"min_new_rows": 0.1}


def configured(settings: Settings, **changes: Any) -> Settings:
    config = yaml.safe_load(settings.consortium_file.read_text())
    settings.consortium_file.write_text(yaml.safe_dump(config | changes))
    return dataclasses.replace(settings)


def tick(settings: Settings, instance: dg.DagsterInstance) -> dg.SensorResult | dg.SkipReason:
    definitions = build(settings)
    context = dg.build_sensor_context(
        instance=instance,
        resources={"platform": Platform.of(settings)},
        definitions=definitions,
    )
    found = definitions.resolve_sensor_def("retraining_policy")(context)
    assert isinstance(found, dg.SensorResult | dg.SkipReason)
    return found


def requests(found: dg.SensorResult | dg.SkipReason) -> list[dg.RunRequest]:
    assert isinstance(found, dg.SensorResult), found
    return list(found.run_requests or [])


def message(found: dg.SensorResult | dg.SkipReason) -> str:
    assert isinstance(found, dg.SkipReason), found
    return str(found.skip_message)


def add_recipe(settings: Settings, name: str, **changes: Any) -> None:
    recipe = {"model": {"kind": "logistic_regression"}, "rounds": 2, **changes}
    (settings.recipes / f"{name}.yaml").write_text(yaml.safe_dump(recipe))


def test_without_a_policy_there_is_no_sensor(world: Settings) -> None:
    names = {sensor.name for sensor in build(world).sensors or []}
    assert "retraining_policy" not in names
    assert {"hospital_uploads_arrived", "hospital_refresh"} <= names


def test_what_is_asked_for_is_asked_for_once(world: Settings, instance: dg.DagsterInstance) -> None:
    settings = configured(world, retraining=RETRAINING, routine=["small-lr"])
    (request,) = requests(tick(settings, instance))
    assert request.partition_key == "small-lr"
    run = instance.create_run_for_job(
        build(settings).resolve_job_def("train_and_promote"),
        tags={**request.tags, "dagster/partition": "small-lr"},
        status=dg.DagsterRunStatus.STARTED,
    )
    assert message(tick(settings, instance)) == "small-lr is being trained"

    instance.report_run_failed(run)
    told = message(tick(settings, instance))
    assert f"asked for in run {run.run_id}, which is FAILURE" in told


def test_a_model_of_today_waits_with_the_figures(
    finished_world: Settings, instance: dg.DagsterInstance
) -> None:
    settings = configured(finished_world, retraining=RETRAINING, routine=["small-lr"])
    assert message(tick(settings, instance)) == (
        "small-lr waits: 0 % new rows of 10 %, nothing has changed since its last model"
    )


def test_private_recipes_go_one_after_the_other_and_not_beyond_the_budget(
    world: Settings, instance: dg.DagsterInstance
) -> None:
    add_recipe(world, "dp-first", privacy={"epsilon": 0.5})
    add_recipe(world, "dp-second", privacy={"epsilon": 0.5})
    add_recipe(world, "dp-too-much", privacy={"epsilon": 2.0})
    settings = configured(
        world,
        retraining=RETRAINING,
        routine=["dp-too-much", "dp-first", "dp-second", "small-lr"],
        privacy_budget={"epsilon": 1.0, "unprotected_runs": True},
    )
    asked = [request.partition_key for request in requests(tick(settings, instance))]
    assert asked == ["dp-first", "small-lr"]

    settings = configured(settings, routine=["dp-too-much"])
    told = message(tick(settings, instance))
    assert "hospital-a has 1.00 left of the 2.00 it asks for" in told


def test_a_blocked_hospital_and_one_out_of_reach_hold_it_up_by_name(
    world: Settings, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    settings = configured(world, retraining=RETRAINING, routine=["small-lr"])
    block(settings.site_store("hospital-c"))
    told = message(tick(settings, instance))
    assert "2 of 3 hospitals are ready (hospital-c: 1 of its uploads block its records)" in told

    (tmp_path / "a-file").write_text("no folder")
    hospitals = yaml.safe_load(settings.consortium_file.read_text())["hospitals"]
    hospitals[0]["bucket"] = (tmp_path / "a-file").as_uri()
    told = message(tick(configured(settings, hospitals=hospitals), instance))
    assert "hospital-a cannot be looked at: StorageError" in told


def test_a_policy_or_a_recipe_that_is_wrong_is_told(
    world: Settings, instance: dg.DagsterInstance
) -> None:
    settings = configured(world, retraining=RETRAINING, routine=["small-lr"])
    definitions = build(settings)
    configured(settings, retraining=None)
    context = dg.build_sensor_context(
        instance=instance,
        resources={"platform": Platform.of(settings)},
        definitions=definitions,
    )
    found = definitions.resolve_sensor_def("retraining_policy")(context)
    assert "has no `retraining` policy any more" in message(found)

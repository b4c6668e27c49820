"""From an upload to a candidate, and backfills, with a real daemon that is killed on the way.

All tests share one consortium, whose daemon each starts anew: none needs another to come first.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from fl_assets.settings import Settings
from fl_assets.site import partitions, profile
from fl_assets_tests.conftest import FINISHED_ROWS
from fl_assets_tests.defs.dagster_server import dagster_dev, wait_for
from fl_assets_tests.defs.daily_life import (
    REFRESHED,
    candidate,
    configure,
    fla,
    fla_upload,
    is_read,
    launch_backfill,
    materialisations,
    set_dagster_yaml,
    skip_reason,
    unfinished,
    wait_for_backfill,
)
from fl_assets_tests.world import settings_of

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]

CHAIN = REFRESHED[:3]


@pytest.fixture(scope="module")
def life(_finished_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    home = tmp_path_factory.mktemp("life") / "world"
    shutil.copytree(_finished_world, home)
    settings = dataclasses.replace(settings_of(home), synthetic_rows=FINISHED_ROWS)
    configure(settings, retraining={"min_new_rows": 0.1}, routine=["small-lr"])
    return dataclasses.replace(settings)


@pytest.fixture
def instance(life: Settings) -> Iterator[dg.DagsterInstance]:
    """The daemon's own instance, read from outside."""
    set_dagster_yaml(life)
    with dg.DagsterInstance.from_config(str(life.home / "dagster")) as found:
        yield found


def test_from_an_upload_to_a_candidate_and_a_backfill_of_recipes(
    life: Settings, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    before = materialisations(instance, [*REFRESHED, "federated_model"])
    model = candidate(life)
    store = life.site_store("hospital-b")
    old = partitions.load_manifest(store)
    with dagster_dev(life, tmp_path / "dagster.log", sensor_seconds=2) as server:
        waits = "small-lr waits: 0 % new rows of 10 %, nothing has changed since its last model"
        wait_for(lambda: skip_reason(server, "retraining_policy") == waits or None, "the policy")

        fla_upload(life, "hospital-b", tmp_path / "february.csv", 150, 99)

        wait_for(lambda: candidate(life) != model or None, "a new candidate", 240)
        wait_for(lambda: not unfinished(instance) or None, "the end of all runs")
        new = partitions.load_manifest(store)
        assert new.rows > old.rows + 100
        assert profile.load_profile(store).partitions == new.version
        made = materialisations(instance, [*REFRESHED, "federated_model"])
        assert made - before == {
            **{f"{asset}/hospital-b": 1 for asset in REFRESHED},
            "federated_model/small-lr": 1,
        }

        recipes = ["small-lr", "small-mlp"]
        backfill = launch_backfill(server, ["recipe", "federated_model"], recipes)
        assert wait_for_backfill(server, backfill) == "COMPLETED_SUCCESS"
        again = materialisations(instance, ["recipe", "federated_model"])
        assert {name for name in again if again[name] > made[name]} == {
            f"{asset}/{recipe}" for asset in ("recipe", "federated_model") for recipe in recipes
        }


def test_what_a_hospital_does_without_dagster_is_followed_once(
    life: Settings, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    before = materialisations(instance, REFRESHED)
    store = life.site_store("hospital-c")
    upload = next(info for info in store.list("incoming/") if "simulated" in info.key)
    patient = store.get(upload.key).splitlines()[1].split(b",")[0].decode()
    fla(life, "erase", "hospital-c", patient, "--yes")
    with dagster_dev(life, tmp_path / "dagster.log", sensor_seconds=2) as server:

        def followed() -> bool | None:
            made = materialisations(instance, REFRESHED) - before
            return len(made) == len(REFRESHED) or None

        wait_for(followed, "the baseline without the patient", 240)
        wait_for(lambda: not unfinished(instance) or None, "the end of all runs")
        sensor = "hospital_uploads_arrived"
        wait_for(lambda: skip_reason(server, sensor) == "no new uploads" or None, "one more look")
    made = materialisations(instance, REFRESHED) - before
    assert made == {f"{asset}/hospital-c": 1 for asset in REFRESHED}


@pytest.mark.faults
def test_an_upload_and_a_backfill_outlive_a_killed_daemon_and_nothing_is_done_twice(
    life: Settings, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    before = materialisations(instance, REFRESHED)
    incoming = life.home / "sites" / "hospital-a" / "incoming"
    lines = next(incoming.glob("simulated-*")).read_bytes().splitlines(keepends=True)

    def begun() -> bool | None:
        return True if materialisations(instance, CHAIN) - before else None

    def asked() -> bool | None:
        runs = instance.get_runs(dg.RunsFilter(tags={"fl/uploads": "incoming/dropped.csv"}))
        return True if runs else None

    with dagster_dev(life, tmp_path / "dagster.log", sensor_seconds=2) as server:
        # Two runs at once, so that the one of the upload is in the queue when all is killed.
        backfill = launch_backfill(server, CHAIN, ["hospital-b", "hospital-c"])
        wait_for(begun, "the first materialisation", 240)
        (incoming / "dropped.csv").write_bytes(b"".join([lines[0], *lines[-5:]]))
        wait_for(asked, "the tick")
        server.kill()
    assert not is_read(life, "hospital-a", "dropped.csv")

    with dagster_dev(life, tmp_path / "dagster.log", sensor_seconds=2) as server:
        assert wait_for_backfill(server, backfill) == "COMPLETED_SUCCESS"
        wait_for(lambda: is_read(life, "hospital-a", "dropped.csv"), "the upload's run", 240)
        wait_for(lambda: not unfinished(instance) or None, "the end of all runs")
    # By this tag the queue keeps them apart, and the sensor knows them.
    runs = instance.get_runs(dg.RunsFilter(tags={"dagster/backfill": backfill}))
    assert {run.tags["dagster/partition"] for run in runs} == {"hospital-b", "hospital-c"}
    made = materialisations(instance, CHAIN) - before
    # The dropped rows were there before, so nothing need follow them.
    assert made == {"hospital_records/hospital-a": 1} | {
        f"{asset}/{hospital}": 1 for asset in CHAIN for hospital in ("hospital-b", "hospital-c")
    }

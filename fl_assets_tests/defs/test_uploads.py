"""The upload sensor asks once, for the hospital that it is about, and names who fails."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from fl_assets.coordinator import arrivals
from fl_assets.coordinator.chain import CHAIN, current_version
from fl_assets.definitions import build
from fl_assets.defs.partitions import sync_hospitals
from fl_assets.defs.resources import Platform
from fl_assets.settings import Settings
from fl_assets.site.intake import BlockedUploadsError
from fl_assets.site.tasks.base import perform
from fl_assets.site.tasks.data import CollectRecords
from fl_assets_tests.world import dagster_instance


@pytest.fixture
def instance(world: Settings, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """Dagster's, which knows what the hospitals have."""
    with dagster_instance(tmp_path) as found:
        for hospital in world.consortium.hospital_names:
            for asset in CHAIN:
                version = current_version(world.site_store(hospital), asset)
                made = dg.AssetMaterialization(
                    asset, partition=hospital, tags={"dagster/data_version": str(version)}
                )
                found.report_runless_asset_event(made)
        yield found


def drop(world: Settings, hospital: str, name: str, rows: int = 20, age: float = 60) -> None:
    """Leave a copy of some of the hospital's rows in its folder, as people do."""
    store = world.site_store(hospital)
    first = store.list("incoming/")[0]
    lines = store.get(first.key).splitlines(keepends=True)[: rows + 1]
    path = Path(world.home) / "sites" / hospital / "incoming" / name
    path.write_bytes(b"".join(lines))
    os.utime(path, (time.time() - age,) * 2)


def tick(
    world: Settings, instance: dg.DagsterInstance, cursor: str | None = None
) -> dg.SensorResult:
    context = dg.build_sensor_context(
        instance=instance,
        cursor=cursor,
        resources={"platform": Platform.of(world)},
        definitions=build(world),
    )
    sensor = build(world).resolve_sensor_def("hospital_uploads_arrived")
    found = sensor(context)
    assert isinstance(found, dg.SensorResult)
    return found


def message(found: dg.SensorResult) -> str:
    assert found.skip_reason is not None
    return str(found.skip_reason.skip_message)


def launch(
    world: Settings, instance: dg.DagsterInstance, request: dg.RunRequest, success: bool = True
) -> None:
    job = build(world).resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(
        instance=instance,
        asset_selection=list(request.asset_selection or []),
        partition_key=request.partition_key,
        tags=dict(request.tags),
        raise_on_error=False,
    )
    assert result.success == success


def queued(
    world: Settings, instance: dg.DagsterInstance, job: str | None, *assets: str, **tags: str
) -> dg.DagsterRun:
    """A run before its start that no sensor has asked for."""
    definitions = build(world)
    found = (
        definitions.resolve_implicit_global_asset_job_def()
        if job is None
        else definitions.resolve_job_def(job)
    )
    return instance.create_run_for_job(
        found,
        asset_selection=frozenset(dg.AssetKey(asset) for asset in assets) or None,
        tags={f"dagster/{name}": value for name, value in tags.items()},
        status=dg.DagsterRunStatus.NOT_STARTED,
    )


def test_an_upload_is_one_run_of_that_hospital_with_its_name_and_cause(
    world: Settings, instance: dg.DagsterInstance
) -> None:
    sync_hospitals(instance, world.consortium)
    assert message(tick(world, instance)) == "no new uploads"

    drop(world, "hospital-b", "new.csv")
    drop(world, "hospital-b", "half.csv.part")
    found = tick(world, instance)

    (request,) = found.run_requests or []
    assert request.partition_key == "hospital-b"
    assert request.asset_selection == [dg.AssetKey("hospital_records")]
    assert request.tags["fl/hospital"] == "hospital-b"
    assert request.tags["fl/uploads"] == "incoming/new.csv"
    # The same state without a cursor is the same run.
    assert [r.run_key for r in tick(world, instance).run_requests or []] == [request.run_key]

    launch(world, instance, request)
    assert message(tick(world, instance, found.cursor)) == "no new uploads"


def test_a_file_put_back_as_it_was_is_another_run(
    world: Settings, instance: dg.DagsterInstance
) -> None:
    sync_hospitals(instance, world.consortium)
    keys = []
    for name in ("new.csv", None, "new.csv", None):
        path = Path(world.home) / "sites" / "hospital-a" / "incoming" / "new.csv"
        if name:
            drop(world, "hospital-a", name)
            os.utime(path, ns=(10**18, 10**18))
        else:
            path.unlink()
        (request,) = tick(world, instance).run_requests or []
        keys.append(request.run_key)
        launch(world, instance, request)
    assert len(set(keys)) == 4


def test_bad_data_are_asked_for_once_and_a_new_hospital_becomes_a_partition(
    world: Settings, instance: dg.DagsterInstance
) -> None:
    instance.add_dynamic_partitions("hospital", ["hospital-b", "hospital-c"])
    incoming = Path(world.home) / "sites" / "hospital-a" / "incoming"
    (upload,) = incoming.iterdir()
    upload.write_bytes(b"not;a;table\n1")
    os.utime(upload, (time.time() - 60,) * 2)

    found = tick(world, instance)
    (added,) = found.dynamic_partitions_requests or []
    assert added.partition_keys == ["hospital-a"]
    sync_hospitals(instance, world.consortium)
    (request,) = found.run_requests or []
    launch(world, instance, request, success=False)

    assert not tick(world, instance, found.cursor).run_requests


def test_one_broken_hospital_is_named_and_the_others_go_on(
    world: Settings, instance: dg.DagsterInstance
) -> None:
    config = yaml.safe_load(world.consortium_file.read_text())
    (world.home / "a-file").write_text("no folder")
    config["hospitals"][0]["bucket"] = (world.home / "a-file").as_uri()
    world.consortium_file.write_text(yaml.safe_dump(config))
    broken = dataclasses.replace(world)
    assert message(tick(broken, instance)).startswith("hospital-a cannot be looked at: Storage")

    drop(world, "hospital-c", "new.csv")
    found = tick(broken, instance)

    assert [request.partition_key for request in found.run_requests or []] == ["hospital-c"]


def test_a_run_that_waits_in_the_queue_is_not_asked_for_again(
    world: Settings, instance: dg.DagsterInstance
) -> None:
    sync_hospitals(instance, world.consortium)
    drop(world, "hospital-a", "new.csv")
    (request,) = tick(world, instance).run_requests or []
    run = queued(world, instance, None, "hospital_records", partition=str(request.partition_key))

    drop(world, "hospital-a", "another.csv")
    waiting = tick(world, instance)
    assert message(waiting) == "hospital-a waits: a run of its data is under way"

    instance.report_run_failed(run)
    (again,) = tick(world, instance, waiting.cursor).run_requests or []
    assert again.tags["fl/uploads"] == "incoming/another.csv, incoming/new.csv"


@pytest.mark.parametrize(
    ("job", "assets", "tags"),
    [
        (None, ("hospital_records",), {"partition": "hospital-b", "backfill": "abcdefgh"}),
        (None, ("hospital_partitions",), {"partition": "hospital-b"}),
        ("refresh_hospital", (), {"partition": "hospital-b"}),
        (
            None,
            ("hospital_records",),
            {
                "asset_partition_range_start": "hospital-a",
                "asset_partition_range_end": "hospital-c",
            },
        ),
    ],
    ids=["backfill", "automation", "job", "range"],
)
def test_a_run_that_somebody_else_asked_for_is_not_doubled(
    world: Settings,
    instance: dg.DagsterInstance,
    job: str | None,
    assets: tuple[str, ...],
    tags: dict[str, str],
) -> None:
    sync_hospitals(instance, world.consortium)
    run = queued(world, instance, job, *assets, **tags)
    for _ in range(25):
        instance.report_run_failed(
            queued(world, instance, None, "hospital_records", partition="hospital-b")
        )
    drop(world, "hospital-b", "new.csv")
    waiting = tick(world, instance)
    assert message(waiting) == "hospital-b waits: a run of its data is under way"

    instance.report_run_failed(run)
    (request,) = tick(world, instance, waiting.cursor).run_requests or []
    assert request.partition_key == "hospital-b"


def test_runs_of_other_hospitals_and_of_other_assets_hold_up_nobody(
    world: Settings, instance: dg.DagsterInstance
) -> None:
    sync_hospitals(instance, world.consortium)
    queued(world, instance, None, "hospital_records", partition="hospital-a")
    queued(world, instance, None, "privacy_ledger", partition="hospital-b")
    # A recipe may have a hospital's name.
    queued(world, instance, None, "federated_model", partition="hospital-b")
    drop(world, "hospital-b", "new.csv")

    (request,) = tick(world, instance).run_requests or []

    assert request.partition_key == "hospital-b"


def test_a_run_that_ends_while_the_sensor_looks_is_not_doubled(
    world: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync_hospitals(instance, world.consortium)
    run = queued(world, instance, None, "hospital_records", partition="hospital-b")
    look = arrivals.look

    def look_while_it_ends(*arguments: Any) -> arrivals.Look:
        found = look(*arguments)
        if found.changed:
            perform(world, "hospital-b", CollectRecords(run=run.run_id))
            instance.report_run_canceled(run)
        return found

    drop(world, "hospital-b", "new.csv")
    monkeypatch.setattr(arrivals, "look", look_while_it_ends)

    assert message(tick(world, instance)) == "hospital-b waits: a run of its data is under way"


def with_losses_allowed(world: Settings) -> Settings:
    config = yaml.safe_load(world.consortium_file.read_text())
    world.consortium_file.write_text(yaml.safe_dump(config | {"intake": {"max_lost": 1}}))
    return dataclasses.replace(world)


def test_what_a_hospital_made_itself_is_asked_for_once(
    world: Settings, instance: dg.DagsterInstance
) -> None:
    sync_hospitals(instance, world.consortium)
    store, keys = world.site_store("hospital-b"), []
    (upload,) = store.list("incoming/")
    lines = store.get(upload.key).splitlines(keepends=True)
    world = with_losses_allowed(world)
    # The last state is the first one come back.
    for rows in (20, 10, 20):
        store.put(upload.key, b"".join(lines[: rows + 1]))
        perform(world, "hospital-b", CollectRecords(run="the hospital itself"))
        found = tick(world, instance)
        (request,) = found.run_requests or []
        assert request.asset_selection == [dg.AssetKey("hospital_records")]
        assert request.tags["fl/uploads"] == "hospital_records, made without Dagster"
        assert [r.run_key for r in tick(world, instance).run_requests or []] == [request.run_key]
        keys.append(request.run_key)
        launch(world, instance, request)
        assert message(tick(world, instance, found.cursor)) == "no new uploads"
    assert len(set(keys)) == 3


def test_records_that_an_upload_blocks_are_not_asked_for(
    world: Settings, instance: dg.DagsterInstance
) -> None:
    sync_hospitals(instance, world.consortium)
    drop(world, "hospital-b", "new.csv", rows=5)
    perform(world, "hospital-b", CollectRecords(run="the hospital itself"))
    path = Path(world.home) / "sites" / "hospital-b" / "incoming" / "new.csv"
    path.write_bytes(b"not;a;table\n1")
    os.utime(path, (time.time() - 60,) * 2)
    with pytest.raises(BlockedUploadsError):
        perform(world, "hospital-b", CollectRecords(run="the hospital itself"))

    assert message(tick(world, instance)) == "no new uploads"


def test_an_unreadable_consortium_file_looks_at_nobody(
    world: Settings, instance: dg.DagsterInstance
) -> None:
    definitions = build(world)
    world.consortium_file.write_text("hospitals: [")
    context = dg.build_sensor_context(
        instance=instance, resources={"platform": Platform.of(world)}, definitions=definitions
    )
    found = definitions.resolve_sensor_def("hospital_uploads_arrived")(context)
    assert isinstance(found, dg.SkipReason)
    assert "nobody was looked at" in str(found.skip_message)


def test_a_queue_that_is_away_is_named_and_all_hospitals_are_looked_at(
    world: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    # Nothing listens on port 1.
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", "http://127.0.0.1:1")
    told = dataclasses.replace(world, upload_queue="http://127.0.0.1:1/123456789012/uploads")
    assert message(tick(told, instance)).startswith("the queue cannot be read: http://127.0.0.1:1/")

    drop(world, "hospital-b", "new.csv")
    asked = tick(told, instance).run_requests or []
    assert [request.partition_key for request in asked] == ["hospital-b"]

"""The running UI: graph by groups, one partition, a backfill, and what a person sees."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fl_assets_tests.conftest import FINISHED_ROWS
from fl_assets_tests.defs.browser import CHROMIUM, chromium_page, open_asset_graph
from fl_assets_tests.defs.dagster_server import SELECTOR, DagsterServer, dagster_dev, wait_for
from fl_assets_tests.thorough import only_thorough
from fl_assets_tests.world import settings_of

pytestmark = pytest.mark.services

HOSPITALS = ["hospital-a", "hospital-b", "hospital-c"]
CHAIN = ["hospital_records", "hospital_partitions", "hospital_profile"]


@pytest.fixture(scope="module")
def server(
    _finished_world: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DagsterServer]:
    folder = tmp_path_factory.mktemp("ui")
    shutil.copytree(_finished_world, folder / "world")
    settings = dataclasses.replace(settings_of(folder / "world"), synthetic_rows=FINISHED_ROWS)
    with dagster_dev(settings, folder / "dagster.log") as found:
        yield found


def test_the_graph_is_grouped_and_described(server: DagsterServer) -> None:
    nodes = server.query(
        "{ assetNodes { assetKey { path } groupName kinds description owners { __typename }"
        " opVersion hasAssetChecks } }"
    )["assetNodes"]

    groups: dict[str, set[str]] = {}
    for node in nodes:
        groups.setdefault(node["groupName"], set()).add(node["assetKey"]["path"][0])
        assert node["kinds"], node
        assert node["owners"], node
        assert node["description"], node
        assert node["opVersion"], node
    assert groups == {
        "ingest": {"raw_dataset", "validated_dataset", "hospital_uploads"},
        "hospital": set(CHAIN),
        "baselines": {"local_baseline", "centralized_baseline"},
        "federation": {
            "preprocessor",
            "recipe",
            "recipe_sweep",
            "federated_model",
            "federated_evaluation",
        },
        "governance": {
            "privacy_ledger",
            "egress_log",
            "membership_audit",
            "model_comparison",
            "champion_model",
        },
    }


def test_jobs_and_sensors_are_there_and_the_sensors_run(server: DagsterServer) -> None:
    found = server.query(
        "query($s: RepositorySelector!) { repositoryOrError(repositorySelector: $s) {"
        " ... on Repository { jobs { name }"
        " sensors { name sensorState { status } } } } }",
        s=SELECTOR,
    )["repositoryOrError"]

    assert {"refresh_hospital", "train_and_promote"} <= {job["name"] for job in found["jobs"]}
    assert {s["name"]: s["sensorState"]["status"] for s in found["sensors"]} == {
        "hospital_roster": "RUNNING",
        "hospital_uploads_arrived": "RUNNING",
        "hospital_refresh": "RUNNING",
    }


def test_one_hospital_is_materialised_from_graphql(server: DagsterServer) -> None:
    parameters = {
        "selector": SELECTOR
        | {
            "jobName": "refresh_hospital",
            "assetSelection": [{"path": [asset]} for asset in CHAIN],
        },
        "mode": "default",
        "runConfigData": {},
        "executionMetadata": {"tags": [{"key": "dagster/partition", "value": "hospital-b"}]},
    }
    launched = server.query(
        "mutation($p: ExecutionParams!) { launchRun(executionParams: $p) { __typename"
        " ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }",
        p=parameters,
    )["launchRun"]
    run_id = launched["run"]["runId"]

    def finished() -> str | None:
        status: str = server.query(
            "query($r: ID!) { runOrError(runId: $r) { ... on Run { status } } }", r=run_id
        )["runOrError"]["status"]
        return status if status in {"SUCCESS", "FAILURE", "CANCELED"} else None

    assert wait_for(finished, "the run") == "SUCCESS"
    events = server.query(
        "query($r: ID!) { runOrError(runId: $r) { ... on Run { assetMaterializations {"
        " assetKey { path } partition } } } }",
        r=run_id,
    )["runOrError"]["assetMaterializations"]
    assert {(e["assetKey"]["path"][0], e["partition"]) for e in events} == {
        (asset, "hospital-b") for asset in CHAIN
    }


@only_thorough  # Two hospitals, and a daemon that is killed, are in test_daily_life.py.
def test_a_backfill_over_all_hospitals_is_one_run_each(server: DagsterServer) -> None:
    launched = server.query(
        "mutation($b: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $b) {"
        " __typename ... on LaunchBackfillSuccess { backfillId } } }",
        b={
            "assetSelection": [{"path": [asset]} for asset in CHAIN],
            "partitionNames": HOSPITALS,
            "title": "all hospitals",
        },
    )["launchPartitionBackfill"]
    backfill = launched["backfillId"]

    def finished() -> dict[str, object] | None:
        found: dict[str, object] = server.query(
            "query($i: String!) { partitionBackfillOrError(backfillId: $i) {"
            " ... on PartitionBackfill { status runs(limit: 10) { status"
            " tags { key value } } } } }",
            i=backfill,
        )["partitionBackfillOrError"]
        return found if str(found["status"]).startswith(("COMPLETED", "FAILED")) else None

    found = wait_for(finished, "the backfill", 180)
    assert found["status"] == "COMPLETED_SUCCESS"
    runs = found["runs"]
    assert isinstance(runs, list)
    tags = [tag for run in runs for tag in run["tags"]]
    partitions = [t["value"] for t in tags if t["key"] == "dagster/partition"]
    assert sorted(partitions) == HOSPITALS


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_a_person_sees_every_group_and_asset_in_the_graph(server: DagsterServer) -> None:
    with chromium_page(1700, 760) as page:
        open_asset_graph(page, server.url)
        shown = page.inner_text("body")
    for text in ("ingest", "hospital", "baselines", "federation", "governance", *CHAIN):
        # Dagster shortens a long name in the middle.
        assert text[:6] in shown
    assert "federated_model" in shown

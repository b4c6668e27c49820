"""What the tests of the daily life ask of a running Dagster, past its web server."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

import dagster as dg
import yaml

from fl_assets.cohorts.synthetic import generate
from fl_assets.cohorts.writer import write_file
from fl_assets.settings import Settings
from fl_assets.site.intake import load_intake
from fl_assets.tracking.models import CANDIDATE, Registry
from fl_assets.tracking.runs import Tracking
from fl_assets_tests.defs.dagster_server import SELECTOR, DagsterServer, environment_of, wait_for

REFRESHED = ("hospital_records", "hospital_partitions", "hospital_profile", "local_baseline")


def set_dagster_yaml(settings: Settings) -> None:
    """Write the instance's configuration: the shipped one, but impatient."""
    folder = settings.home / "dagster"
    folder.mkdir(exist_ok=True)
    shipped = yaml.safe_load((resources.files("fl_assets.defs") / "dagster.yaml").read_text())
    # The shipped one waits minutes before it declares a run dead.
    monitoring = {"enabled": True, "poll_interval_seconds": 2, "start_timeout_seconds": 60}
    (folder / "dagster.yaml").write_text(yaml.safe_dump(shipped | {"run_monitoring": monitoring}))


def configure(settings: Settings, **changes: Any) -> None:
    """Change the consortium's file."""
    config = yaml.safe_load(settings.consortium_file.read_text())
    settings.consortium_file.write_text(yaml.safe_dump(config | changes))


def fla(settings: Settings, *arguments: str) -> None:
    """Run ``fla`` in a process of its own; it must succeed."""
    subprocess.run(
        [sys.executable, "-m", "fl_assets.cli", *arguments],
        env=environment_of(settings),
        check=True,
        capture_output=True,
    )


def fla_upload(settings: Settings, hospital: str, file: Path, patients: int, seed: int) -> None:
    """Send made-up patients by ``fla upload``, which is all that a hospital does."""
    cohort = settings.cohort
    file.write_bytes(write_file(generate(cohort, patients, seed), cohort))
    fla(settings, "upload", hospital, str(file), "--yes")


def materialisations(instance: dg.DagsterInstance, assets: Iterable[str]) -> Counter[str]:
    """Count how often each partition of assets was materialised, as ``asset/partition``."""
    found: Counter[str] = Counter()
    for asset in assets:
        wanted = dg.AssetRecordsFilter(dg.AssetKey(asset))
        for record in instance.fetch_materializations(wanted, limit=1000).records:
            found[f"{asset}/{record.partition_key}"] += 1
    return found


def is_read(settings: Settings, hospital: str, name: str) -> bool | None:
    """Tell whether a hospital's intake has read an upload; None if not."""
    uploads = load_intake(settings.site_store(hospital)).uploads
    return True if f"incoming/{name}" in {upload.key for upload in uploads} else None


def unfinished(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """Return the runs that are not at their end."""
    return [run for run in instance.get_runs(limit=200) if not run.is_finished]


def candidate(settings: Settings) -> str | None:
    """Return the version of the registered model that is the candidate."""
    tracking = Tracking(settings.tracking_uri, settings.consortium.name)
    version = Registry(tracking, settings.model_name).alias(CANDIDATE)
    return None if version is None else str(version.version)


def skip_reason(server: DagsterServer, sensor: str) -> str | None:
    """Return why the newest tick of a sensor asked for nothing."""
    found = server.query(
        "query($s: SensorSelector!) { sensorOrError(sensorSelector: $s) { ... on Sensor {"
        " sensorState { ticks(limit: 1, statuses: [SKIPPED, SUCCESS]) { skipReason } } } } }",
        s=SELECTOR | {"sensorName": sensor},
    )["sensorOrError"]
    ticks = found["sensorState"]["ticks"]
    return ticks[0]["skipReason"] if ticks else None


def launch_backfill(server: DagsterServer, assets: Iterable[str], partitions: list[str]) -> str:
    """Launch a backfill by GraphQL, as the UI does; return its id."""
    found: str = server.query(
        "mutation($b: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $b) {"
        " ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }",
        b={
            "assetSelection": [{"path": [asset]} for asset in assets],
            "partitionNames": partitions,
            "title": "a backfill",
        },
    )["launchPartitionBackfill"]["backfillId"]
    return found


def wait_for_backfill(server: DagsterServer, backfill: str) -> str:
    """Return the status that a backfill ends with."""

    def ended() -> str | None:
        status: str = server.query(
            "query($i: String!) { partitionBackfillOrError(backfillId: $i) {"
            " ... on PartitionBackfill { status } } }",
            i=backfill,
        )["partitionBackfillOrError"]["status"]
        return status if status.startswith(("COMPLETED", "FAILED")) else None

    return wait_for(ended, "the backfill", 240)

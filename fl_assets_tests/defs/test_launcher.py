"""A run whose process is gone is found out; Dagster's own launcher leaves it running for ever."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.launcher import WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._core.test_utils import create_run_for_test

from fl_assets.defs.launcher import LocalRunLauncher
from fl_assets_tests.world import dagster_instance


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dagster_instance(tmp_path) as found:
        yield found


def health(instance: dg.DagsterInstance, tags: dict[str, str]) -> WorkerStatus:
    launcher = instance.run_launcher
    assert isinstance(launcher, LocalRunLauncher)
    assert launcher.supports_check_run_worker_health
    run = create_run_for_test(instance, tags=tags)
    return launcher.check_run_worker_health(run).status


def test_a_run_whose_code_server_is_gone_is_dead(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    where = {"host": "localhost", "socket": str(tmp_path / "gone.sock")}
    assert health(instance, {GRPC_INFO_TAG: json.dumps(where)}) == WorkerStatus.NOT_FOUND


def test_a_run_of_another_process_is_left_alone(instance: dg.DagsterInstance) -> None:
    assert health(instance, {}) == WorkerStatus.RUNNING

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from fl_assets.doctor.checks import Verdict, examine
from fl_assets.doctor.tracking import tracking_check
from fl_assets.settings import Settings
from fl_assets_tests.tracking.servers import free_port


def test_a_database_that_is_there_answers(world: Settings) -> None:
    found = examine(tracking_check(world))

    assert found.verdict == Verdict.PASSED
    assert found.found == "it answers; the experiment is made at the first run"


def test_a_database_that_is_not_there_is_not_made(world: Settings, tmp_path: Path) -> None:
    file = tmp_path / "new.db"
    found = examine(tracking_check(dataclasses.replace(world, tracking_uri=f"sqlite:///{file}")))

    assert found.verdict == Verdict.PASSED
    assert not file.exists()


def test_a_server_that_is_away_is_named_without_its_password(
    world: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    port = free_port()
    uri = f"http://me:hunter2@127.0.0.1:{port}"

    found = examine(tracking_check(dataclasses.replace(world, tracking_uri=uri)))

    assert found.verdict == Verdict.PROBLEM
    assert str(port) in found.found
    assert "hunter2" not in repr(found)
    assert "MLFLOW_TRACKING_URI" in str(found.cure)

"""Training by GraphQL on a real Dagster: web server, daemon and code server."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fl_assets_tests.conftest import REPOSITORY
from fl_assets_tests.defs.dagster_server import DagsterServer, dagster_dev
from fl_assets_tests.world import settings_of

pytestmark = [pytest.mark.infra, pytest.mark.services]


@pytest.fixture(scope="module")
def server(
    _finished_world: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DagsterServer]:
    """Dagster over a world that is done; recipe small-mlp is spoilt after it was loaded."""
    home = tmp_path_factory.mktemp("worlds") / "world"
    shutil.copytree(_finished_world, home)
    settings = settings_of(home)
    with dagster_dev(settings, home / "dagster.log", sensor_seconds=600) as running:
        (settings.recipes / "small-mlp.yaml").write_text("rounds: never\n")
        yield running


def train_remote(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploy.train_remote", *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )


def test_a_recipe_is_trained_and_followed(server: DagsterServer) -> None:
    done = train_remote("small-lr", "--url", server.url)

    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].endswith("of recipe small-lr is launched")
    run = lines[0].split()[1]
    assert lines[-1] == f"run {run} succeeded"
    assert any(line.startswith("federated_model: ") for line in lines)

    again = train_remote("--run", run, "--url", server.url)
    assert again.returncode == 0
    assert again.stdout.splitlines()[-1] == f"run {run} succeeded"


def test_a_run_that_fails_says_why(server: DagsterServer) -> None:
    done = train_remote("small-mlp", "--url", server.url)

    assert done.returncode == 1
    assert "small-mlp.yaml does not fit" in done.stdout
    assert "ended as FAILURE" in done.stderr


def test_a_recipe_that_is_none_is_not_launched(server: DagsterServer) -> None:
    done = train_remote("no-such", "--url", server.url)

    assert done.returncode == 1
    assert "it has small-lr, small-mlp" in done.stderr
    assert done.stdout == ""


def test_a_run_that_is_none(server: DagsterServer) -> None:
    done = train_remote("--run", "no-such", "--url", server.url)

    assert done.returncode == 1
    assert "Dagster has no run no-such" in done.stderr

"""A real ``dagster dev`` over a world, spoken to by GraphQL."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import requests

from fl_assets.settings import Settings
from fl_assets_tests.conftest import REPOSITORY

Found = TypeVar("Found")
SELECTOR = {"repositoryLocationName": "fl_assets", "repositoryName": "__repository__"}


class DagsterServer:
    """The GraphQL API of a running server."""

    def __init__(self, url: str, process: subprocess.Popen[bytes]) -> None:
        self.url = url
        self._process = process

    def kill(self) -> None:
        """End server, daemon, code server and all runs at once, as when the machine goes down."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def query(self, text: str, **variables: Any) -> dict[str, Any]:
        """Run a query or mutation and return its data."""
        answer = requests.post(
            f"{self.url}/graphql", json={"query": text, "variables": variables}, timeout=60
        ).json()
        assert "errors" not in answer, answer
        data: dict[str, Any] = answer["data"]
        return data


def wait_for(look: Callable[[], Found | None], what: str, seconds: float = 120) -> Found:
    """Return what ``look`` finds, asking again until the bound."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = look()
        if found is not None:
            return found
        time.sleep(0.3)
    raise AssertionError(f"{what}: not within {seconds:.0f} s")


def environment_of(settings: Settings) -> dict[str, str]:
    """Return the environment in which ``fla`` works on a world's folder."""
    return os.environ | {
        "FLA_HOME": str(settings.home),
        "FLA_CONSORTIUM": str(settings.consortium_file),
        "FLA_RECIPES": str(settings.recipes),
        "FLA_SYNTHETIC_ROWS": str(settings.synthetic_rows),
        "MLFLOW_TRACKING_URI": settings.tracking_uri,
        "DAGSTER_HOME": str(settings.home / "dagster"),
    }


@contextmanager
def dagster_dev(
    settings: Settings, log: Path, sensor_seconds: int = 30, queue: str | None = None
) -> Iterator[DagsterServer]:
    """Run ``fla dev`` over a world's folder; stopped with all its children at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = environment_of(settings) | {
        "FLA_SENSOR_SECONDS": str(sensor_seconds),
        "FLA_UPLOAD_QUEUE": queue or "",
    }
    command = [sys.executable, "-m", "fl_assets.cli", "dev", "--port", str(port)]
    with log.open("ab") as output:
        server = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            # A group of its own, so that the daemon and the code server can be stopped with it.
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(lambda: _ready(url, server, log), "dagster dev")
        yield DagsterServer(url, server)
    finally:
        _stop(server)


def _ready(url: str, server: subprocess.Popen[bytes], log: Path) -> bool | None:
    assert server.poll() is None, log.read_text()[-3000:]
    try:
        answer = requests.post(
            f"{url}/graphql",
            json={"query": "{ repositoriesOrError { __typename } }"},
            timeout=5,
        )
    except requests.RequestException:
        return None
    if not answer.ok:
        return None
    found = answer.json().get("data", {}).get("repositoriesOrError", {}).get("__typename")
    return True if found == "RepositoryConnection" else None


def _stop(server: subprocess.Popen[bytes]) -> None:
    if server.poll() is not None:
        return
    server.send_signal(signal.SIGTERM)
    try:
        with suppress(subprocess.TimeoutExpired):
            server.wait(timeout=20)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)

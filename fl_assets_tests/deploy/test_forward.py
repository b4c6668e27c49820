"""The way through ``kubectl port-forward``, with a stand-in: the fake cluster forwards no ports."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deploy.dagster_api import Dagster
from deploy.errors import DeploymentError
from deploy.forward import Forward
from fl_assets_tests.storage.servers import Handler, serving


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a program named kubectl before all others."""
    program = folder / "kubectl"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


class Empty(Handler):
    """A web server without a code location."""

    def handle_any(self) -> None:
        self.body()
        self.answer(200, b'{"data": {"repositoriesOrError": {"nodes": []}}}')


def test_the_port_is_read_and_the_process_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = f'echo $$ > {tmp_path}/pid; printf "%s " "$@" > {tmp_path}/asked'
    stand_in(
        tmp_path,
        monkeypatch,
        f"{lines}; echo 'Forwarding from 127.0.0.1:4321 -> 3000'; exec sleep 60",
    )

    with Forward("mlops", "dagster", 3000) as forward:
        assert forward.url == "http://127.0.0.1:4321"

    asked = (tmp_path / "asked").read_text().strip()
    assert asked == "-n mlops port-forward service/dagster :3000"
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_refusal_is_told_in_kubectls_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, monkeypatch, "echo 'error: You must be logged in to the server' >&2; exit 1")

    with (
        pytest.raises(DeploymentError, match=r"You must be logged in.*update-kubeconfig"),
        Forward("mlops", "dagster", 3000),
    ):
        pass


def test_without_kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(DeploymentError, match="no `kubectl`"):
        Forward("mlops", "dagster", 3000)


def test_a_way_that_broke_is_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At first nobody listens; the second way leads to a server, which has no job for us."""
    with serving(Empty) as url:
        port = url.rpartition(":")[2]
        first = tmp_path / "first"
        stand_in(
            tmp_path,
            monkeypatch,
            f"test -e {first} && port={port} || port=1; touch {first}\n"
            'echo "Forwarding from 127.0.0.1:$port -> 3000"; exec sleep 60',
        )
        with (
            Forward("mlops", "dagster", 3000) as forward,
            pytest.raises(DeploymentError, match="no code location of Dagster has the job"),
        ):
            Dagster(forward).launch("fedavg-lr")
        assert forward.url == url

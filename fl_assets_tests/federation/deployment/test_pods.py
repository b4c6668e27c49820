"""The processes of a training's pods, without Kubernetes around them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fl_assets.cluster.termination import FINAL
from fl_assets.federation.deployment.pki import Authority, new_node_key
from fl_assets.federation.deployment.pod_server import RUN_BEGINS, ServerPodArguments
from fl_assets.federation.deployment.pod_site import SitePodArguments, own_config
from fl_assets.federation.job import FederationJob, load_result
from fl_assets.settings import Settings
from fl_assets_tests.federation.conftest import MakeJob
from fl_assets_tests.federation.deployment.processes import HERE, wait_for

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]

HOST = "127.97.255.1"


class Pods:
    """Processes that are started as pods would be."""

    def __init__(self, world: Settings, folder: Path) -> None:
        self.folder = folder
        self.world = world
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            self.port = int(probe.getsockname()[1])
        self.address = f"{HOST}:{self.port}"
        self.processes: list[subprocess.Popen[bytes]] = []

    def make_secrets(self, job: FederationJob) -> None:
        """Write each pod's files."""
        server = self._new("server")
        files = Authority().issue(server, HOST)
        nodes = {}
        for name in job.sites:
            public = new_node_key(self._new(name) / "node.key")
            nodes[name] = public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
            (self.folder / name / "ca.pem").write_bytes(files.ca.read_bytes())
        (server / "job.json").write_text(job.model_dump_json())
        (server / "nodes.json").write_text(json.dumps(nodes))

    def server(self, start_seconds: float = 60) -> subprocess.Popen[bytes]:
        """Start the server."""
        given = ServerPodArguments(
            secrets=self.folder / "server",
            address=HOST,
            port=self.port,
            start_seconds=start_seconds,
        )
        return self._start("pod_server", given.model_dump_json(), "server")

    def site(
        self, name: str, start_seconds: float = 60, away_seconds: float = 60
    ) -> subprocess.Popen[bytes]:
        """Start a hospital's site."""
        given = SitePodArguments(
            hospital=name,
            superlink=self.address,
            secrets=self.folder / name,
            start_seconds=start_seconds,
            away_seconds=away_seconds,
        )
        return self._start("pod_site", given.model_dump_json(), name)

    def said(self, name: str) -> str:
        """The log of a pod."""
        return (self.folder / f"{name}.log").read_text()

    def last_words(self, name: str) -> str:
        """The termination message of a pod."""
        return (self.folder / f"{name}.message").read_text()

    def _new(self, name: str) -> Path:
        (self.folder / name).mkdir()
        return self.folder / name

    def _start(self, module: str, argument: str, name: str) -> subprocess.Popen[bytes]:
        home = self.folder / f"home-{name}-{len(self.processes)}"
        home.mkdir()
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", f"fl_assets.federation.deployment.{module}", argument],
                env=HERE
                | {
                    "PATH": os.environ["PATH"],
                    "HOME": str(home),
                    "TMPDIR": str(home),
                    "FLA_HOME": str(self.world.home),
                    "FLA_CONSORTIUM": str(self.world.consortium_file),
                    "FLA_TERMINATION_LOG": str(self.folder / f"{name}.message"),
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=home,
            )
        self.processes.append(process)
        return process


@pytest.fixture
def pods(world: Settings, tmp_path: Path) -> Iterator[Pods]:
    folder = tmp_path / "pods"
    folder.mkdir()
    started = Pods(world, folder)
    yield started
    for process in started.processes:
        process.kill()
        process.wait()


def test_a_hospital_is_configured_by_its_own_settings(world: Settings) -> None:
    config = own_config(world, "hospital-b")
    assert config.store == world.site_uri("hospital-b")
    assert config.budget == world.consortium.budget("hospital-b")
    assert config.access == world.site_access("hospital-b")


@pytest.mark.infra
@pytest.mark.faults
def test_a_pod_that_is_replaced_rejoins_and_all_end_when_the_run_does(
    pods: Pods, make_job: MakeJob, world: Settings
) -> None:
    job = make_job(rounds=40, quorum=2, local_epochs=8)
    pods.make_secrets(job)
    server = pods.server()
    sites = {name: pods.site(name) for name in job.sites}
    wait_for(lambda: server.poll() is not None or RUN_BEGINS in pods.said("server"))
    assert server.poll() is None, pods.said("server")
    # Without a goodbye, so the server takes it for online.
    sites["hospital-b"].kill()
    sites["hospital-b"].wait()
    replaced = pods.site("hospital-b")

    assert server.wait(120) == 0, pods.said("server")
    result = load_result(world.coordinator_store(), job.run)
    there = ["hospital-b" in report.sites for report in result.history.rounds]
    assert there[-1], pods.said("hospital-b")
    assert "an earlier pod of hospital-b is still online" in pods.said("hospital-b")
    for site in (sites["hospital-a"], replaced, sites["hospital-c"]):
        assert site.wait(30) == 0
    assert not list(pods.folder.glob("*.message"))


@pytest.mark.faults
def test_without_its_server_a_site_ends_and_says_why(pods: Pods, make_job: MakeJob) -> None:
    pods.make_secrets(make_job())
    never = pods.site("hospital-a", start_seconds=0.5)
    # Its Job starts no other, which would wait for the same server.
    assert never.wait(60) == FINAL
    assert pods.last_words("hospital-a").startswith("ServerAwayError: the server at")
    assert "did not begin within 0.5 s" in pods.last_words("hospital-a")

    server = pods.server(start_seconds=300)
    gone = pods.site("hospital-b", away_seconds=0.5)
    wait_for(lambda: "takes part" in pods.said("hospital-b"))
    server.send_signal(signal.SIGTERM)
    assert server.wait(30) == 128 + signal.SIGTERM
    assert gone.wait(60) == FINAL
    assert "has not answered for 0.5 s" in pods.last_words("hospital-b")
    assert "start the training again" in pods.last_words("hospital-b")


@pytest.mark.infra
def test_a_server_whose_sites_do_not_come_ends_and_names_them(
    pods: Pods, make_job: MakeJob
) -> None:
    pods.make_secrets(make_job())
    assert pods.server(start_seconds=0.5).wait(60) == 1
    words = pods.last_words("server")
    assert words.startswith("SiteNotOnlineError: hospital-a, hospital-b, hospital-c did not get")

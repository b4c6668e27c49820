"""A real SuperLink and real SuperNodes, and what can happen to them."""

import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fl_assets.federation.checkpoints import Checkpoint, Checkpoints, Inputs
from fl_assets.federation.deployment.children import ProcessDiedError
from fl_assets.federation.deployment.executor import REFUSED
from fl_assets.federation.deployment.local import Deployment, OtherSitesError
from fl_assets.federation.deployment.pki import Authority
from fl_assets.federation.deployment.server import RunFailedError
from fl_assets.federation.flower_internals.control import Control, build_fab
from fl_assets.federation.job import FederationJob, FederationResult
from fl_assets.federation.runtimes.inprocess import InProcessRuntime
from fl_assets.federation.site_config import SiteConfig
from fl_assets.learning.weights import weights_to_bytes
from fl_assets.settings import Settings
from fl_assets_tests.federation.conftest import MakeJob
from fl_assets_tests.federation.deployment.processes import (
    PATIENCE,
    environment_of,
    marked,
    parent,
    wait_for,
)
from fl_assets_tests.federation.final_figures import final_figures
from fl_assets_tests.thorough import only_thorough

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]

MLP = {"model": {"kind": "mlp", "hidden": [4]}, "optimizer": {"kind": "adam", "lr": 0.01}}


def bits(result: FederationResult) -> bytes:
    return weights_to_bytes(result.weights)


class Background:
    """A run in a thread."""

    def __init__(self, deployment: Deployment, job: FederationJob) -> None:
        self.result: FederationResult | None = None
        self.error: BaseException | None = None

        def run() -> None:
            try:
                self.result = deployment.run(job)
            except BaseException as error:
                self.error = error

        self._thread = threading.Thread(target=run)
        self._thread.start()

    def join(self) -> None:
        self._thread.join(PATIENCE * 3)
        assert not self._thread.is_alive()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()


def latest(settings: Settings, job: FederationJob) -> Checkpoint | None:
    """A run's last checkpoint, if it is under way."""
    inputs = Inputs(recipe=job.recipe.hash, preprocessor=job.preprocessor.version)
    return Checkpoints(settings.coordinator_store(), job.run, inputs, keep=2).latest()


@contextmanager
def running(
    deployment: Deployment, job: FederationJob, settings: Settings, rounds: int = 1
) -> Iterator[Background]:
    """Start a run and wait until it has a checkpoint of a round."""
    run = Background(deployment, job)

    def reached() -> bool:
        found = latest(settings, job)
        return not run.running or (found is not None and found.round >= rounds)

    wait_for(reached)
    assert run.running, run.error
    yield run
    run.join()


def test_the_weights_are_those_of_the_process_runtime(
    deployment: Deployment, make_job: MakeJob, shared_world: Settings
) -> None:
    job = make_job("deployed", shared_world, rounds=3, **MLP)
    deployed = deployment.run(job)
    here = InProcessRuntime().run(job.model_copy(update={"run": "in-process"}))
    assert bits(deployed) == bits(here)
    assert final_figures(deployed) == final_figures(here)
    assert [set(r.sites) for r in deployed.history.rounds] == [set(job.sites)] * 3


def test_a_site_has_its_own_secret_and_no_other_process_has_any(
    deployment: Deployment, make_job: MakeJob, shared_world: Settings
) -> None:
    with running(deployment, make_job("secrets", shared_world, rounds=8), shared_world):
        found = {c.name: environment_of(c.pid) for c in deployment.processes}
        found["server"] = environment_of(*marked(deployment.folder) - _known(deployment))
    names = shared_world.consortium.hospital_names
    secrets = {
        process: set(re.findall(r"secret of [\w-]+", str(e))) for process, e in found.items()
    }
    executors = {f"{name}-executor": {f"secret of {name}"} for name in names}
    assert secrets == {process: set[str]() for process in found} | executors
    assert len(found) == 2 + 2 * len(names)


def _known(deployment: Deployment) -> set[int]:
    return {child.pid for child in deployment.processes}


def test_what_the_server_app_raises_reaches_the_caller(
    deployment: Deployment, make_job: MakeJob, shared_world: Settings
) -> None:
    job = make_job("diverges", shared_world, rounds=5, optimizer={"lr": 1e30})
    with pytest.raises(RunFailedError, match=r"QuorumNotReachedError: round \d: ") as caught:
        deployment.run(job)
    assert str(deployment.folder) in str(caught.value)


def test_a_store_that_the_deployment_does_not_have_is_refused(
    deployment: Deployment, make_job: MakeJob, shared_world: Settings
) -> None:
    job = make_job("other", shared_world)
    moved = job.model_copy(update={"sites": job.sites | {"hospital-a": "file:///elsewhere"}})
    with pytest.raises(OtherSitesError, match="stores of hospital-a: give it the job's sites"):
        deployment.run(moved)


def test_a_run_is_of_the_installed_app_and_the_jobs_hospitals(
    deployment: Deployment, make_job: MakeJob, shared_world: Settings
) -> None:
    control = Control(deployment.address, deployment.ca)
    run_id = control.start(
        build_fab(
            '[project]\nname = "other"\nversion = "1.0.0"\n'
            '[tool.flwr.app]\npublisher = "somebody"\n'
            '[tool.flwr.app.components]\nserverapp = "os:abort"\nclientapp = "os:abort"\n'
            '[tool.flwr.app.config]\nrun = ""\n'
        ),
        {},
    )
    job = make_job("two", shared_world)
    pair = {name: job.sites[name] for name in ("hospital-a", "hospital-c")}
    result = deployment.run(job.model_copy(update={"sites": pair}))
    assert control.failure(run_id) == REFUSED
    assert [set(r.sites) for r in result.history.rounds] == [set(pair)] * 2


@pytest.mark.faults
def test_a_killed_site_is_a_dropout_and_comes_back_under_its_key(
    deployment: Deployment, make_job: MakeJob, shared_world: Settings
) -> None:
    job = make_job("killed", shared_world, rounds=60, quorum=2, local_epochs=8)
    with running(deployment, job, shared_world, rounds=2) as run:
        deployment.kill_site("hospital-b")
        deployment.start_site("hospital-b")
    assert run.result is not None, run.error
    there = ["hospital-b" in report.sites for report in run.result.history.rounds]
    assert there[0]
    assert there[-1]
    assert not all(there)
    assert all({"hospital-a", "hospital-c"} <= set(r.sites) for r in run.result.history.rounds)
    assert "hospital-b" in run.result.history.final


@pytest.mark.faults
def test_a_process_that_dies_by_itself_takes_its_site_out_of_the_run(
    deployment: Deployment,
    make_job: MakeJob,
    shared_world: Settings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    job = make_job("dies", shared_world, rounds=12, quorum=2)
    with running(deployment, job, shared_world, rounds=2) as run:
        executor = next(c for c in deployment.processes if c.name == "hospital-c-executor")
        os.kill(executor.pid, signal.SIGKILL)
    assert run.result is not None, run.error
    assert "hospital-c" not in run.result.history.rounds[-1].sites
    assert "hospital-c is out of the run: process hospital-c-executor ended with SIGKILL" in (
        caplog.text
    )
    assert not [c for c in deployment.processes if c.name.startswith("hospital-c")]
    deployment.start_site("hospital-c")


def lost(settings: Settings, job: FederationJob) -> bool:
    """Whether a run has had a dropout."""
    found = latest(settings, job)
    return found is not None and any(report.dropouts for report in found.history.rounds)


@pytest.mark.faults
def test_a_site_that_hangs_costs_a_round_its_deadline(
    deployment: Deployment, make_job: MakeJob, shared_world: Settings
) -> None:
    job = make_job("hangs", shared_world, rounds=20, quorum=2, round_deadline=5.0)
    hanging = [c for c in deployment.processes if c.name.startswith("hospital-a")]
    with running(deployment, job, shared_world, rounds=2) as run:
        for child in hanging:
            os.killpg(child.pid, signal.SIGSTOP)
        wait_for(lambda: not run.running or lost(shared_world, job))
        for child in hanging:
            os.killpg(child.pid, signal.SIGCONT)
    assert run.result is not None, run.error
    late = [r for r in run.result.history.rounds if "hospital-a" in r.dropouts]
    assert late
    assert {r.dropouts["hospital-a"] for r in late} == {"no reply before the round's deadline"}
    assert max(r.seconds for r in late) < 5.0 + 3.0


@pytest.mark.faults
@only_thorough  # test_faults.py freezes them.
def test_a_run_whose_sites_are_all_killed_fails_clean(
    deployment: Deployment, make_job: MakeJob, shared_world: Settings
) -> None:
    job = make_job("all", shared_world, rounds=200, quorum=2, round_deadline=5.0)
    with running(deployment, job, shared_world, rounds=1) as run:
        before = time.monotonic()
        for name in job.sites:
            deployment.kill_site(name)
    assert time.monotonic() - before < 5.0 + 30.0
    assert "QuorumNotReachedError" in str(run.error)
    assert {c.name for c in deployment.processes} == {"superlink"}
    assert marked(deployment.folder) == _known(deployment)
    for name in job.sites:
        deployment.start_site(name)


@pytest.mark.faults
def test_a_killed_server_is_named_and_its_run_goes_on_from_the_last_round(
    deployment: Deployment, make_job: MakeJob, shared_world: Settings
) -> None:
    job = make_job("resumed", shared_world, rounds=6, **MLP)
    with running(deployment, job, shared_world, rounds=2) as run:
        (server,) = marked(deployment.folder) - _known(deployment)
        os.kill(server, signal.SIGKILL)
    assert isinstance(run.error, ProcessDiedError)
    assert "process server ended with SIGKILL" in str(run.error)

    resumed = deployment.run(job)
    whole = InProcessRuntime().run(job.model_copy(update={"run": "whole"}))
    assert resumed.history.resumed
    assert bits(resumed) == bits(whole)


@pytest.mark.faults
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_nothing_outlives_whoever_started_it(
    make_job: MakeJob, world: Settings, tmp_path: Path, number: signal.Signals
) -> None:
    job = make_job(rounds=10_000)
    alone = job.model_copy(update={"sites": {"hospital-a": job.sites["hospital-a"]}})
    (tmp_path / "job.json").write_text(alone.model_dump_json())
    folder = tmp_path / "run"
    store = world.coordinator_store()
    module = "fl_assets_tests.federation.deployment.run_job"
    with parent(folder, module, str(tmp_path / "job.json"), str(folder)) as process:
        wait_for(lambda: process.poll() is not None or store.list(f"runs/{job.run}/checkpoints/"))
        assert process.poll() is None, process.communicate()
        assert len(marked(folder)) == 4
        process.send_signal(number)
        process.communicate()
        wait_for(lambda: not marked(folder))
    if number == signal.SIGINT:
        # Python had time to clean up.
        assert not list(folder.glob("keys-*"))


@pytest.mark.faults
def test_a_link_that_dies_ends_the_run_and_is_named(
    make_job: MakeJob, world: Settings, tmp_path: Path
) -> None:
    job = make_job(rounds=10_000)
    alone = job.model_copy(update={"sites": {"hospital-a": job.sites["hospital-a"]}})
    with Deployment(alone.nodes(), work=tmp_path) as deployment:
        with running(deployment, alone, world) as run:
            link = next(c for c in deployment.processes if c.name == "superlink")
            os.kill(link.pid, signal.SIGKILL)
        assert isinstance(run.error, ProcessDiedError)
        assert "process superlink ended with SIGKILL" in str(run.error)
    assert not marked(tmp_path)


@pytest.mark.faults
def test_a_deployment_that_does_not_start_says_why_and_leaves_nothing(
    world: Settings, tmp_path: Path
) -> None:
    class Broken(Authority):
        def issue(self, folder: Path, address: str = "127.0.0.1"):  # type: ignore[no-untyped-def]
            files = super().issue(folder, address)
            files.certificate.write_text("no certificate")
            return files

    sites = {"hospital-a": SiteConfig(hospital="hospital-a", store=world.site_uri("hospital-a"))}
    with (
        pytest.raises(ProcessDiedError, match=r"process superlink ended with exit code 1; the end"),
        Deployment(sites, work=tmp_path, authority=Broken()),
    ):
        pass
    assert not marked(tmp_path)
    assert not list(tmp_path.glob("keys-*"))

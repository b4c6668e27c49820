"""Power cuts at random moments of a real run: whatever happens, it ends with the right weights."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fl_assets.federation.deployment.local import Deployment
from fl_assets.federation.deployment.server import RunFailedError
from fl_assets.federation.job import FederationJob
from fl_assets.federation.runtimes.inprocess import InProcessRuntime
from fl_assets.federation.runtimes.processes import ProcessesRuntime
from fl_assets.settings import Settings
from fl_assets_tests.federation.absence import without_dropouts
from fl_assets_tests.federation.conftest import MakeJob
from fl_assets_tests.federation.deployment.processes import marked, wait_for
from fl_assets_tests.federation.deployment.test_local import Background, bits, running
from fl_assets_tests.federation.final_figures import final_figures
from fl_assets_tests.thorough import THOROUGH, only_thorough

pytestmark = [pytest.mark.faults, pytest.mark.services, pytest.mark.timeout(600)]

HOSPITALS = ("hospital-a", "hospital-b", "hospital-c")
SITE_MODULES = ("deployment.supernode", "deployment.executor")
# The suite has to end in time, and each of these takes seconds.
KILLS, SERVER_KILLS = (20, 10) if THOROUGH else (4, 3)

ROUNDS = 12
LATEST_KILL = 4
"""Round of the last kill, so that there are rounds without the site and rounds after its return."""


@dataclass(frozen=True)
class Kill:
    """When a site is killed, and how.

    Attributes:
        hospital: the site.
        round: whose trace, in the coordinator's store or in the site's own, is waited for.
        own: whether it is the update that is written to the site's egress log; else the
            checkpoint.
        seconds: from there to the kill.
        processes: that are killed.
        rejoins: whether the site is started again during the run.
    """

    hospital: str
    round: int
    own: bool
    seconds: float
    processes: tuple[str, ...]
    rejoins: bool


def kill_of(seed: int) -> Kill:
    draw = random.Random(seed)
    hospital = draw.choice(HOSPITALS)
    node, executor = f"{hospital}-node", f"{hospital}-executor"
    return Kill(
        hospital,
        draw.randint(1, LATEST_KILL),
        draw.random() < 0.5,
        draw.uniform(0, 0.05),
        draw.choice([(node,), (executor,), (node, executor)]),
        rejoins=seed % 2 == 0,
    )


@pytest.fixture
def complete(deployment: Deployment) -> Deployment:
    """The deployment, with the sites that an earlier test killed."""
    for hospital in HOSPITALS:
        if not processes_of(deployment, hospital):
            deployment.start_site(hospital)
    return deployment


def processes_of(deployment: Deployment, hospital: str) -> dict[str, int]:
    return {c.name: c.pid for c in deployment.processes if c.name.startswith(hospital)}


def trace(settings: Settings, job: FederationJob, kill: Kill) -> Callable[[], bool]:
    """Return whether the round's trace is there, to be asked again and again."""
    if not kill.own:
        key = f"runs/{job.run}/checkpoints/training-{kill.round:06d}"
        store = settings.coordinator_store()
        return lambda: bool(store.list(key))
    store = settings.site_store(kill.hospital)
    before = len(store.list("egress/"))
    return lambda: len(store.list("egress/")) >= before + kill.round


@pytest.mark.parametrize("seed", range(KILLS))
def test_without_a_site_that_was_killed_the_others_compute_what_they_would_without_it(
    complete: Deployment, make_job: MakeJob, shared_world: Settings, seed: int
) -> None:
    kill = kill_of(seed)
    job = make_job(f"kill-{seed}", shared_world, rounds=ROUNDS, quorum=2, round_deadline=120)
    job = job.model_copy(update={"keep_checkpoints": ROUNDS})
    checkpoints, store = f"runs/{job.run}/checkpoints/", shared_world.coordinator_store()

    def done() -> int:
        return len(store.list(checkpoints))

    there = trace(shared_world, job, kill)
    victims = processes_of(complete, kill.hospital)
    other = next(h for h in HOSPITALS if h != kill.hospital)
    waiting = processes_of(complete, other)[f"{other}-executor"]

    run = Background(complete, job)
    try:
        wait_for(lambda: there() or not run.running)
        threading.Event().wait(kill.seconds)
        for name in kill.processes:
            os.kill(victims[name], signal.SIGKILL)
        wait_for(lambda: not processes_of(complete, kill.hospital))
        if kill.rejoins:
            before = done()
            wait_for(lambda: done() > before)
            # Else the run would be over before the site is back.
            os.kill(waiting, signal.SIGSTOP)
            complete.start_site(kill.hospital)
            assert run.running
    finally:
        os.kill(waiting, signal.SIGCONT)
        run.join()

    assert run.result is not None, run.error
    history = run.result.history
    assert len(history.rounds) == ROUNDS
    assert {name for r in history.rounds for name in r.dropouts} == {kill.hospital}
    assert kill.hospital in history.rounds[0].sites or kill.round == 1
    assert (kill.hospital in history.rounds[-1].sites) == kill.rejoins
    # That it is gone was noticed, and not waited for.
    assert kill.rejoins or max(r.seconds for r in history.rounds) < job.recipe.round_deadline / 2
    reference = without_dropouts(job, history)
    assert bits(run.result) == bits(reference)
    assert [set(r.sites) for r in history.rounds] == [
        set(r.sites) for r in reference.history.rounds
    ]


def site_processes(folder: Path) -> list[int]:
    """Return the ids of the sites' processes of a deployment, found as a stranger would."""

    def is_site(pid: int) -> bool:
        command = Path(f"/proc/{pid}/cmdline").read_text()
        return '"half":"server"' not in command and any(m in command for m in SITE_MODULES)

    return [pid for pid in marked(folder) if is_site(pid)]


@pytest.mark.parametrize(
    "number", [signal.SIGSTOP, pytest.param(signal.SIGKILL, marks=only_thorough)]
)
def test_a_run_that_loses_all_its_sites_fails_in_time_and_leaves_no_process(
    make_job: MakeJob, world: Settings, tmp_path: Path, number: signal.Signals
) -> None:
    """Killed, or hanging for ever."""
    deadline = 4.0
    job = make_job("all", rounds=10_000, quorum=2, round_deadline=deadline)
    folder = tmp_path / "deployment"
    ended: list[float] = []
    error: list[BaseException] = []

    def run() -> None:
        try:
            ProcessesRuntime(work=folder).run(job)
        except BaseException as caught:
            error.append(caught)
        ended.append(time.monotonic())

    thread = threading.Thread(target=run)
    thread.start()
    store = world.coordinator_store()
    wait_for(lambda: store.list(f"runs/{job.run}/checkpoints/") or ended)
    assert not ended, error
    sites = site_processes(folder)
    assert len(sites) == 2 * len(HOSPITALS)
    began = time.monotonic()
    for pid in sites:
        os.kill(pid, number)
    thread.join(deadline + 60)

    assert ended, "the run did not end"
    assert ended[0] - began < deadline + 30
    (caught,) = error
    assert isinstance(caught, RunFailedError)
    assert "sites delivered an update, the quorum is 2" in str(caught)
    assert all(hospital in str(caught) for hospital in HOSPITALS)
    assert not marked(folder)


def test_killed_after_each_round_the_server_ends_bit_for_bit_as_undisturbed(
    complete: Deployment, make_job: MakeJob, shared_world: Settings
) -> None:
    """With a strategy that has a state, and with layers that the sites keep."""
    rounds = SERVER_KILLS
    recipe: dict[str, Any] = {
        "model": {"kind": "embedding", "encoder": [6, 3]},
        "personalisation": {"kind": "local_layers"},
        "strategy": {"kind": "fedadam"},
        "local_epochs": 3,
        "rounds": rounds,
    }
    whole = InProcessRuntime().run(make_job("whole", shared_world, **recipe))
    job = make_job("server", shared_world, **recipe)
    for round_ in range(1, rounds + 1):
        with running(complete, job, shared_world, rounds=round_) as run:
            children = {child.pid for child in complete.processes}
            (server,) = marked(complete.folder) - children
            os.kill(server, signal.SIGKILL)
        assert "process server ended with SIGKILL" in str(run.error)

    result = complete.run(job)

    assert result.history.resumed == tuple(range(1, rounds + 1))
    assert [r.round for r in result.history.rounds] == list(range(1, rounds + 1))
    assert all(set(r.sites) == set(HOSPITALS) for r in result.history.rounds)
    assert bits(result) == bits(whole)
    assert final_figures(result) == final_figures(whole)

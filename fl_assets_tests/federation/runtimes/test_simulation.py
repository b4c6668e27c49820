from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict

from fl_assets.consortium import PrivacyBudget
from fl_assets.federation import rounds
from fl_assets.federation.flower_internals import identify_process, stamp
from fl_assets.federation.runtimes.inprocess import InProcessRuntime
from fl_assets.federation.runtimes.simulation import (
    RayMissingError,
    RayNotStartedError,
    SimulationRuntime,
    _InTime,
    _ray,
)
from fl_assets.federation.strategies.wave import NO_REPLY
from fl_assets.learning.models import model_for
from fl_assets.learning.weights import weights_to_bytes
from fl_assets.settings import Settings
from fl_assets_tests.federation.conftest import MakeJob
from fl_assets_tests.federation.family import descendants
from fl_assets_tests.thorough import only_thorough


@contextmanager
def hanging(world: Settings, hospital: str) -> Iterator[Path]:
    """Let the hospital's store wait for ever when it is to keep the egress entry of an update.

    Yields:
        What it waits for.
    """
    lock = world.home / "sites" / hospital / ".lock"
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield lock


def test_without_ray_it_says_what_to_install(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RayMissingError, match=r"pip install 'fl_assets\[simulation\]'"):
        SimulationRuntime().run(make_job())


@pytest.mark.services
def test_a_process_that_had_ray_before_is_not_opened_to_the_network() -> None:
    code = (
        "import ray\n"
        "from fl_assets.federation.runtimes.simulation import _ray\n"
        "with _ray(1): pass\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert RayNotStartedError.__name__ in done.stderr
    assert "process of its own" in done.stderr


@pytest.mark.services
def test_ray_listens_on_loopback_wants_a_token_and_leaves_the_process_as_it_was() -> None:
    variables, handler = dict(os.environ), signal.getsignal(signal.SIGTERM)
    before = descendants()
    with _ray(1):
        import ray

        hosts = listening(descendants() - before)
        # The same question with and without the token, of a process that Ray did not start.
        ask = f"import ray; ray.init({ray.get_runtime_context().gcs_address!r})"
        known = dict(os.environ)
        stranger = {k: v for k, v in known.items() if k != "RAY_AUTH_TOKEN"} | {"HOME": "/"}
        answers = [
            subprocess.run([sys.executable, "-c", ask], env=env, capture_output=True, text=True)
            for env in (known, stranger)
        ]
    assert hosts == {"127.0.0.1"}
    assert [answer.returncode == 0 for answer in answers] == [True, False], answers
    assert "Authentication" in answers[1].stderr
    assert dict(os.environ) == variables
    assert signal.getsignal(signal.SIGTERM) is handler


def listening(processes: set[int]) -> set[str]:
    """Addresses that processes listen on, IPv4 in either notation."""
    links = [link for p in processes for link in Path(f"/proc/{p}/fd").glob("*")]
    sockets = {target(link) for link in links}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == "0A" and f"socket:[{inode}]" in sockets:
                host = local.split(":")[0][-8:]
                found.add(socket.inet_ntoa(bytes.fromhex(host)[::-1]))
    return found


def target(link: Path) -> str | None:
    """Where a link points to, None if it is gone."""
    try:
        return str(link.readlink())
    except OSError:
        return None


@pytest.mark.faults
def test_a_site_that_hangs_is_given_up_and_keeps_its_old_state(
    make_job: MakeJob, world: Settings
) -> None:
    job, begun = make_job(), time.monotonic()
    identify_process(5)
    context = Context(
        run_id=5,
        node_id=9,
        node_config={**job.nodes()["hospital-a"].to_node()},
        state=RecordDict({"mine": MetricRecord({"n": 1})}),
        run_config=job.run_config(),
    )
    model = model_for(job.recipe.model, job.preprocessor, 0)
    asked = ConfigRecord({rounds.RUN: job.run, rounds.ROUND: 1, rounds.NONCE: "n"})
    content = RecordDict({"arrays": ArrayRecord(model.state_dict()), "config": asked})

    def ask(deadline: float) -> Message:
        message = Message(content, dst_node_id=9, message_type="train")
        stamp(message)
        return _InTime(deadline)(message, context)

    with hanging(world, "hospital-a"):
        late = ask(deadline=1)
    assert late.error.reason == f"LateSiteError: {NO_REPLY}"
    assert time.monotonic() - begun < 60
    assert dict(context.state.metric_records["mine"]) == {"n": 1}
    assert ask(deadline=60).has_content()


@only_thorough
@pytest.mark.faults
@pytest.mark.services
def test_a_worker_that_dies_is_replaced_and_its_message_tried_again(
    make_job: MakeJob, world: Settings
) -> None:
    held, never = threading.Event(), threading.Event()

    def kill_who_waits() -> None:
        with hanging(world, "hospital-b") as lock:
            held.set()
            while not (found := waiting_for(lock)):
                never.wait(0.1)
            os.kill(found[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_who_waits, daemon=True)
    killer.start()
    held.wait(10)
    result = SimulationRuntime().run(make_job("killed", rounds=3, round_deadline=120))
    killer.join()

    assert [report.dropouts for report in result.history.rounds] == [{}] * 3
    expected = InProcessRuntime().run(make_job("expected", rounds=3))
    assert weights_to_bytes(result.weights) == weights_to_bytes(expected.weights)


def waiting_for(lock: Path) -> list[int]:
    """Processes below this one that have a file open."""
    return [
        process
        for process in descendants()
        if str(lock) in map(target, Path(f"/proc/{process}/fd").glob("*"))
    ]


@pytest.mark.services
def test_many_hospitals_share_a_few_workers_to_the_same_bits_in_silence(
    make_job: MakeJob, world: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    job = make_job("many", model={"kind": "mlp", "hidden": [4]})
    sites = {}
    for k in range(20):
        store = world.home / "sites" / f"virtual-{k:02}"
        shutil.copytree(world.home / "sites" / "hospital-a", store)
        sites[store.name] = store.as_uri()
    budgets = dict.fromkeys(sites, PrivacyBudget(unprotected_runs=True))
    many = job.model_copy(update={"sites": sites, "budgets": budgets})
    expected = InProcessRuntime().run(many.model_copy(update={"run": "expected"}))

    result = SimulationRuntime().run(many)

    assert weights_to_bytes(result.weights) == weights_to_bytes(expected.weights)
    assert len(result.history.participants) == 20
    assert capfd.readouterr() == ("", "")

"""What every runtime must do, with the same job and the same outcome."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Iterator
from typing import Any, get_args

import pytest

from fl_assets.federation.job import FederationError, FederationJob, FederationResult, load_result
from fl_assets.federation.runtimes.base import (
    Runtime,
    RuntimeName,
    UnknownRuntimeError,
    build_runtime,
)
from fl_assets.federation.runtimes.inprocess import InProcessRuntime
from fl_assets.learning.weights import weights_to_bytes
from fl_assets.settings import Settings
from fl_assets.storage import ObjectNotFoundError
from fl_assets.tracking.runs import Tracking
from fl_assets_tests.federation.conftest import MakeJob
from fl_assets_tests.federation.family import descendants
from fl_assets_tests.federation.final_figures import final_figures
from fl_assets_tests.federation.test_resumption import killed_after
from fl_assets_tests.thorough import THOROUGH

MLP: dict[str, Any] = {
    "model": {"kind": "mlp", "hidden": [4]},
    "optimizer": {"kind": "adam", "lr": 0.01},
}
LOCAL_NORMS: dict[str, Any] = {
    "model": {"kind": "embedding", "encoder": [6, 3]},
    "personalisation": {"kind": "local_layers"},
}
PR_SET_CHILD_SUBREAPER = 36

# The others start servers of their own; pods have a file of their own, for they need a cluster.
NAMES = [
    name if name == "inprocess" else pytest.param(name, marks=pytest.mark.services)
    for name in get_args(RuntimeName)
    if name != "kubernetes"
]
# Processes and Ray take ten seconds to start, and the suite has to end in time.
SOME, ONE = (NAMES, NAMES) if THOROUGH else (NAMES[:2], NAMES[:1])


@pytest.fixture(params=NAMES)
def runtime(request: pytest.FixtureRequest) -> Runtime:
    return build_runtime(request.param)


@pytest.fixture
def _adopting() -> Iterator[None]:
    """Make this process the parent of what its descendants leave behind, so that it is found."""
    libc = ctypes.CDLL(None)
    assert libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    yield
    libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def bits(result: FederationResult) -> bytes:
    return weights_to_bytes(result.weights)


def story(result: FederationResult) -> list[dict[str, Any]]:
    """A history without its times, and without what is said of ledgers that know of every run."""
    timed = {"seconds", "aggregation", "gap"}
    rounds = [
        report.model_dump(exclude={*timed, "sites", "dropouts"})
        | {"sites": {n: s.model_dump(exclude={"seconds"}) for n, s in report.sites.items()}}
        | {"dropouts": sorted(report.dropouts)}
        for report in result.history.rounds
    ]
    return [*rounds, {n: final.model_dump() for n, final in final_figures(result).items()}]


def in_process(job: FederationJob) -> FederationResult:
    return InProcessRuntime().run(job.model_copy(update={"run": f"{job.run}-reference"}))


def test_a_failing_site_drops_out_and_the_others_compute_the_same_bits_everywhere(
    runtime: Runtime, make_job: MakeJob, world: Settings, tracking: Tracking
) -> None:
    world.site_store("hospital-b").delete("partitions/manifest.json")
    job = make_job(quorum=2, rounds=3, **MLP)
    expected = in_process(job)

    with tracking.run("run", {}) as mlflow_run:
        tracked = {"tracking_uri": tracking.uri, "mlflow_run": mlflow_run}
        result = runtime.run(job.model_copy(update=tracked))

    assert bits(result) == bits(expected)
    assert story(result) == story(expected)
    assert set(result.history.participants) == {"hospital-a", "hospital-c"}
    for report in result.history.rounds:
        cause = report.dropouts["hospital-b"]
        assert "ObjectNotFoundError" in cause
        assert "partitions/manifest.json" in cause
    assert bits(load_result(world.coordinator_store(), job.run)) == bits(expected)
    # Its observers were told, in whatever process they were.
    logged = tracking.client.get_metric_history(mlflow_run, "train_loss")
    assert [metric.step for metric in logged] == [1, 2, 3]
    assert [metric.value for metric in logged] == pytest.approx(
        [report.train_loss for report in expected.history.rounds]
    )


@pytest.mark.parametrize("runtime", ONE, indirect=True)
def test_an_interrupted_run_goes_on_in_any_runtime(runtime: Runtime, make_job: MakeJob) -> None:
    # With layers that stay at the sites, so that these too must find what they had.
    job = make_job(rounds=3, **LOCAL_NORMS)
    expected = in_process(job)
    with killed_after("training", 2):
        InProcessRuntime().run(job)

    result = runtime.run(job)

    assert result.history.resumed == (2,)
    assert bits(result) == bits(expected)
    assert story(result)[:2] == story(expected)[:2]


@pytest.mark.usefixtures("_adopting")
@pytest.mark.parametrize("runtime", SOME, indirect=True)
def test_below_its_quorum_a_run_fails_with_every_cause_and_leaves_nothing(
    runtime: Runtime, make_job: MakeJob, world: Settings
) -> None:
    before = descendants()
    world.site_store("hospital-c").delete("partitions/manifest.json")
    job = make_job(round_deadline=60)

    with pytest.raises(
        FederationError,
        match=r"(?s)round 1: 2 sites delivered an update, the quorum is 3 \(hospital-c: .*"
        r"ObjectNotFoundError.*lower `quorum`",
    ):
        runtime.run(job)

    with pytest.raises(ObjectNotFoundError):
        load_result(world.coordinator_store(), job.run)
    # A process that was told to end takes a moment.
    end, never = time.monotonic() + 20, threading.Event()
    while (left := descendants() - before) and time.monotonic() < end:
        never.wait(0.1)
    assert not left


@pytest.mark.parametrize("runtime", ONE, indirect=True)
def test_too_few_sites_are_refused(runtime: Runtime, make_job: MakeJob) -> None:
    job = make_job(quorum=2)
    alone = job.model_copy(update={"sites": {"hospital-a": job.sites["hospital-a"]}})
    with pytest.raises(FederationError, match=r"has 1 sites and needs 2.*lower `quorum`"):
        runtime.run(alone)


def test_a_name_that_no_runtime_has() -> None:
    with pytest.raises(
        UnknownRuntimeError, match=r"'ray'.* inprocess, processes, simulation, kubernetes"
    ):
        build_runtime("ray")

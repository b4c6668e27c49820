"""The kubelet of the fake cluster: how a pod ends, and its log."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from fl_assets_tests.cluster.fakekube import FakeKube
from fl_assets_tests.cluster.objects import IMAGE, pod
from fl_assets_tests.cluster.observing import ended, log_of, status, waits_for


@pytest.fixture(autouse=True)
def image(kube: FakeKube) -> None:
    kube.images[IMAGE] = {}


def runs(process: int) -> bool:
    # A zombie is no more than a number that its parent has not asked about.
    stat = Path(f"/proc/{process}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_pod_tells_why_it_ended(kube: FakeKube) -> None:
    kube.apply(pod("p", "sh", "-c", "echo -n no rows > $FLA_TERMINATION_LOG; exit 2"))
    assert ended(kube).items() >= {"exitCode": 2, "reason": "Error", "message": "no rows"}.items()


def test_the_path_of_the_last_words_is_the_pods_own_too(kube: FakeKube) -> None:
    kube.apply(pod("p", "sh", "-c", "echo -n why > /dev/termination-log"))
    assert ended(kube)["message"] == "why"


@pytest.mark.parametrize(("policy", "said"), [("FallbackToLogsOnError", "oh\n"), ("File", "")])
def test_the_log_stands_in_for_last_words_if_the_pod_wants_so(
    kube: FakeKube, policy: str, said: str
) -> None:
    kube.apply(pod("p", "sh", "-c", "echo oh; exit 1", terminationMessagePolicy=policy))
    assert ended(kube).get("message", "") == said


def test_a_program_that_is_not_there(kube: FakeKube) -> None:
    kube.apply(pod("p", "/no/such/program"))
    end = ended(kube)
    assert (end["exitCode"], end["reason"]) == (128, "StartError")
    assert status(kube)["phase"] == "Failed"


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGKILL, 137), (signal.SIGTERM, 143), (signal.SIGSEGV, 139)]
)
def test_a_killed_pod_fails_with_the_signal(kube: FakeKube, number: int, code: int) -> None:
    kube.apply(pod("p", "sleep", "1000"))
    kube.kill_pod("default", "p", number)
    end = ended(kube)
    assert (end["exitCode"], end["reason"]) == (code, "Error")
    assert status(kube)["phase"] == "Failed"


def test_a_pod_that_ran_out_of_memory(kube: FakeKube) -> None:
    kube.apply(pod("p", "sleep", "1000"))
    kube.oom_kill("default", "p")
    end = ended(kube)
    assert (end["exitCode"], end["reason"]) == (137, "OOMKilled")


def test_an_evicted_pod(kube: FakeKube) -> None:
    kube.apply(pod("p", "sleep", "1000"))
    kube.evict("default", "p", "The node was low on resource: ephemeral-storage.")
    ended(kube)
    assert (
        status(kube).items()
        >= {
            "phase": "Failed",
            "reason": "Evicted",
            "message": "The node was low on resource: ephemeral-storage.",
        }.items()
    )
    assert "DisruptionTarget" in [c["type"] for c in status(kube)["conditions"]]


def test_a_pod_has_a_deadline_of_its_own(kube: FakeKube) -> None:
    kube.apply(pod("p", "sleep", "1000", activeDeadlineSeconds=1))
    ended(kube)
    assert (status(kube)["phase"], status(kube)["reason"]) == ("Failed", "DeadlineExceeded")


def test_a_removed_pod_is_asked_to_end_and_has_time_to(
    kube: FakeKube, core: client.CoreV1Api, tmp_path: Path
) -> None:
    code = f"trap 'echo bye > {tmp_path}/bye; exit 0' TERM; echo up; while :; do sleep 0.02; done"
    kube.apply(pod("p", "sh", "-c", code, terminationGracePeriodSeconds=30))
    kube.until(lambda: "up" in kube.logs("default", "p") if kube.processes() else False)
    core.delete_namespaced_pod("p", "default")
    assert kube.objects("Pod")[0]["metadata"]["deletionGracePeriodSeconds"] == 30
    kube.wait_gone()
    assert (tmp_path / "bye").read_text() == "bye\n"


def test_a_pod_that_does_not_end_is_killed(kube: FakeKube, core: client.CoreV1Api) -> None:
    code = "trap '' TERM; setsid sleep 1000 & echo $!; while :; do sleep 0.02; done"
    kube.apply(pod("p", "sh", "-c", code, terminationGracePeriodSeconds=1))
    child = kube.until(lambda: kube.logs("default", "p") if kube.processes() else "")
    began = time.monotonic()
    core.delete_namespaced_pod("p", "default")
    kube.wait_gone()
    assert time.monotonic() - began > 0.9
    assert not runs(int(child))


def test_a_pod_without_grace_is_gone_at_once(kube: FakeKube, core: client.CoreV1Api) -> None:
    kube.apply(pod("p", "sleep", "1000"))
    kube.until(kube.processes)
    core.delete_namespaced_pod("p", "default", grace_period_seconds=0)
    assert kube.objects("Pod") == []
    kube.wait_gone()


def test_what_a_process_leaves_behind_ends_with_it(kube: FakeKube) -> None:
    # In a session of its own, the child is out of the pod's process group.
    assert not runs(int(log_of(kube, "sh", "-c", "setsid sleep 1000 & echo $!")))


def test_nothing_outlives_the_cluster() -> None:
    with FakeKube(images={IMAGE: {}}) as kube:
        kube.apply(pod("p", "sh", "-c", "trap '' TERM; setsid sleep 1000 & sleep 1000"))
        processes = kube.until(lambda: pids if len(pids := kube.processes()) > 2 else [])
        folder = Path(kube.kubeconfig).parent
    assert not folder.exists()
    assert [process for process in processes if runs(process)] == []


def read_log(core: client.CoreV1Api, **options: Any) -> str:
    # What this client makes of a body by itself is "b'...'".
    return core.read_namespaced_pod_log(
        "p", "default", _preload_content=False, **options
    ).data.decode()


def test_a_log_is_read_in_part_and_with_times(kube: FakeKube, core: client.CoreV1Api) -> None:
    log_of(kube, "sh", "-c", "echo one; echo two; printf three")
    assert read_log(core) == "one\ntwo\nthree"
    assert read_log(core, tail_lines=2) == "two\nthree"
    assert read_log(core, tail_lines=0) == ""
    assert read_log(core, since_seconds=60) == "one\ntwo\nthree"
    first = read_log(core, timestamps=True).splitlines()[0].split(" ")
    assert first[0].endswith("Z")
    assert first[1] == "one"


def test_old_lines_are_left_out(kube: FakeKube, core: client.CoreV1Api, tmp_path: Path) -> None:
    code = f"echo old; while ! test -e {tmp_path}/go; do sleep 0.02; done; echo new"
    kube.apply(pod("p", "sh", "-c", code))
    kube.until(lambda: kube.logs("default", "p") if kube.processes() else "")
    kube.until(lambda: read_log(core, since_seconds=1) == "")
    (tmp_path / "go").touch()
    ended(kube)
    assert read_log(core, since_seconds=60) == "old\nnew\n"


def test_a_followed_log_comes_as_it_is_written_and_ends_with_the_pod(
    kube: FakeKube, core: client.CoreV1Api, tmp_path: Path
) -> None:
    code = f"echo one; while ! test -e {tmp_path}/go; do sleep 0.02; done; seq 2000"
    kube.apply(pod("p", "sh", "-c", code))
    kube.until(kube.processes)
    stream = core.read_namespaced_pod_log("p", "default", follow=True, _preload_content=False)
    received = b""
    for chunk in stream.stream():
        received += chunk
        # Only now the pod goes on: a log that came at the end alone would wait for ever.
        (tmp_path / "go").touch()
    assert received.decode().split() == ["one", *map(str, range(1, 2001))]


def test_the_log_is_whole_when_the_pod_is_done(kube: FakeKube) -> None:
    # More than a pipe holds, written by a child that ends last.
    assert log_of(kube, "sh", "-c", "seq 30000").splitlines()[-1] == "30000"


def test_the_log_of_a_waiting_pod_is_refused(kube: FakeKube, core: client.CoreV1Api) -> None:
    kube.apply(pod("p", "true", image="registry.example/absent:1"))
    waits_for(kube, "ImagePullBackOff")
    with pytest.raises(ApiException) as error:
        read_log(core)
    assert error.value.status == 400
    message = json.loads(error.value.body)["message"]
    assert message == 'container "main" in pod "p" is waiting to start: ImagePullBackOff'

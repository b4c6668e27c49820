"""Groups of Jobs in a fake cluster whose pods are small programs."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from fl_assets.cluster.api import ClusterApi, ClusterApiError, Manifest
from fl_assets.cluster.client import connect
from fl_assets.cluster.group import Group, JobFailedError
from fl_assets.cluster.manifests import PodJob, group_name, secret_manifest
from fl_assets.cluster.termination import FINAL
from fl_assets.consortium import Cluster, PodResources
from fl_assets_tests.cluster.fakekube import FakeKube
from fl_assets_tests.cluster.objects import role_for

pytestmark = pytest.mark.services

NAME = group_name("a run")
CLUSTER = Cluster(deadline_seconds=60, start_seconds=30)
MESSAGE = "import os, sys; open(os.environ['FLA_TERMINATION_LOG'], 'w').write({!r}); sys.exit(1)"
FOR_EVER = "import time; print('here', flush=True); time.sleep(600)"


@pytest.fixture
def api(kube: FakeKube, monkeypatch: pytest.MonkeyPatch) -> ClusterApi:
    kube.images |= {"image": {}}
    for namespace in ("one", "two"):
        kube.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
            *(
                {
                    "apiVersion": "v1",
                    "kind": kind,
                    "metadata": {"name": name, "namespace": namespace},
                }
                for kind, name in (
                    ("ServiceAccount", "site"),
                    ("ConfigMap", "consortium"),
                    ("ConfigMap", "fla-environment"),
                )
            ),
        )
    monkeypatch.setenv("KUBECONFIG", kube.kubeconfig)
    return ClusterApi(connect())


def pod(code: str, namespace: str = "one", *, retries: int = 0, secret: bool = False) -> PodJob:
    return PodJob(
        group=NAME,
        component="server" if namespace == "one" else "site",
        namespace=namespace,
        account="site",
        image="image",
        command=("python", "-c", code),
        resources=PodResources(),
        run="a run",
        secret=secret,
        retries=retries,
    )


def group(api: ClusterApi, cluster: Cluster = CLUSTER) -> Group:
    return Group(api, cluster, NAME, ["one", "two"])


def run(
    api: ClusterApi,
    main: PodJob,
    *others: PodJob,
    cluster: Cluster = CLUSTER,
    on_line: Callable[[str], None] | None = None,
) -> None:
    """Start Jobs and wait for the end of the main one."""
    with group(api, cluster) as jobs:
        for job in (*others, main):
            jobs.start(job)
        jobs.wait(main, on_line=on_line)


class Stopped(BaseException):
    """What an interrupted run of Dagster raises is no Exception either."""


def test_the_end_of_the_main_job_is_the_groups_and_its_lines_come_in_order(
    api: ClusterApi, kube: FakeKube
) -> None:
    lines: list[str] = []
    main = pod("for n in range(500): print(n)")
    run(api, main, pod(FOR_EVER, "two"), on_line=lines.append)
    assert lines == [str(n) for n in range(500)]
    # It returns when nothing runs any more, not when that was asked for.
    assert not kube.objects("Pod", **{"fl/group": NAME})
    kube.wait_gone(**{"fl/group": NAME})


def test_lines_come_while_the_pod_runs_and_an_interruption_leaves_nothing(
    api: ClusterApi, kube: FakeKube
) -> None:
    def stop(line: str) -> None:
        raise Stopped(line)

    with pytest.raises(Stopped, match="here"):
        run(api, pod(FOR_EVER), pod(FOR_EVER, "two"), on_line=stop)
    kube.wait_gone(**{"fl/group": NAME})


def test_a_pods_last_words_are_its_jobs_failure(api: ClusterApi, kube: FakeKube) -> None:
    words = r"exit code 1: NoRowsError: none \(the last of 2 attempts\)$"
    with pytest.raises(JobFailedError, match=words):
        run(api, pod(MESSAGE.format("NoRowsError: none"), retries=1))
    kube.wait_gone(**{"fl/group": NAME})


def test_a_pod_that_says_so_is_not_started_again(api: ClusterApi, kube: FakeKube) -> None:
    final = MESSAGE.replace("exit(1)", f"exit({FINAL})").format("ServerAwayError: gone")
    with pytest.raises(JobFailedError, match=rf"exit code {FINAL}: ServerAwayError: gone$"):
        run(api, pod(final, retries=3))


def test_another_jobs_failure_is_told_once_or_raised(api: ClusterApi) -> None:
    told: list[str] = []
    main = pod("import time; time.sleep(4)")
    with group(api) as jobs:
        jobs.start(pod(MESSAGE.format("words"), "two"))
        jobs.start(main)
        jobs.wait(main, on_failure=lambda error: told.append(str(error)))
    assert len(told) == 1
    assert "in namespace two: it ended with exit code 1: words" in told[0]

    with pytest.raises(JobFailedError, match="in namespace two"):
        run(api, pod(FOR_EVER), pod(MESSAGE.format("words"), "two"))


def test_what_an_attempt_before_has_left_is_removed_first(api: ClusterApi, kube: FakeKube) -> None:
    left = group(api)
    left.start(pod(FOR_EVER, "two"))
    (before,) = kube.objects("Job", "two")
    main = pod("")
    with group(api) as jobs:
        assert not kube.objects("Pod", "two")
        made = jobs.start(pod(FOR_EVER, "two"))
        assert made["metadata"]["uid"] != before["metadata"]["uid"]
        jobs.start(main)
        jobs.wait(main)


def test_a_secret_of_an_attempt_before_that_goes_late_is_in_nobodys_way(
    api: ClusterApi, kube: FakeKube
) -> None:
    def attempt() -> Manifest:
        main = pod("", secret=True)
        made = jobs.start(main)
        return secret_manifest(main, made, {"key": b"4711"})

    with group(api) as jobs:
        # Garbage is collected in the background; this one is held.
        held = attempt()
        held["metadata"]["finalizers"] = ["test/held"]
        api.create(held)
    with group(api) as jobs:
        (left,) = kube.objects("Secret")
        api.create(attempt())
        assert len(kube.objects("Secret")) == 2
    left["metadata"]["finalizers"] = []
    kube.apply(left)
    kube.wait_gone(**{"fl/group": NAME})


def test_a_namespace_that_refuses_keeps_no_other_from_being_emptied(
    api: ClusterApi,
    kube: FakeKube,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    rules = [{"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["deletecollection"]}]
    pods = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]
    kube.apply(*role_for("two", "site", rules + pods))
    with group(api) as jobs:
        jobs.start(pod(FOR_EVER, "two"))
        monkeypatch.setenv("KUBECONFIG", kube.kubeconfig_for("two", "site"))
        jobs.api = ClusterApi(connect())
    assert not kube.objects("Job", "two")
    assert "may be left" in caplog.text
    with pytest.raises(ClusterApiError, match=rf"remove the jobs of group {NAME} in one: .*forbid"):
        group(jobs.api).__enter__()


def test_a_pod_that_is_replaced_is_told_once_with_its_reason(
    api: ClusterApi, tmp_path: Path
) -> None:
    first, told_of = tmp_path / "first", tmp_path / "told"
    dies_once = f"import pathlib; p = pathlib.Path({str(first)!r}); f = p.exists(); p.touch()\n"
    dies_once += f"if not f:\n  {MESSAGE.format('words')}\n{FOR_EVER}"
    until_told = f"import os, time\nwhile not os.path.exists({str(told_of)!r}): time.sleep(0.05)"
    told: list[str] = []

    def tell(loss: JobFailedError) -> None:
        told.append(str(loss))
        told_of.touch()

    with group(api) as jobs:
        main = pod(until_told)
        for job in (pod(dies_once, "two", retries=1), main):
            jobs.start(job)
        jobs.wait(main, on_loss=tell)
    assert len(told) == 1
    assert told[0].endswith(
        "in namespace two: it ended with exit code 1: words; another is started"
    )


def test_a_pod_waits_for_its_secret_and_the_secret_goes_with_the_job(
    api: ClusterApi, kube: FakeKube
) -> None:
    code = "import pathlib; print(pathlib.Path('/etc/fla/run/key').read_text())"
    main = pod(code, secret=True)
    lines: list[str] = []
    with group(api) as jobs:
        made = jobs.start(main)
        api.create(secret_manifest(main, made, {"key": b"4711"}))
        jobs.wait(main, on_line=lines.append)
    assert lines == ["4711"]
    kube.wait_gone(**{"fl/group": NAME})


def test_nobody_waits_for_ever_for_a_pod_that_does_not_start(
    api: ClusterApi, kube: FakeKube
) -> None:
    main = pod("", secret=True)
    with group(api, CLUSTER.model_copy(update={"start_seconds": 1})) as jobs:
        jobs.start(main)
        # The reason is an event, and a busy machine may need more than the second to record it.
        kube.until(lambda: "FailedMount" in {e["reason"] for e in kube.objects("Event", "one")})
        with pytest.raises(JobFailedError, match=r"within 1 s: its files are not there: .*fl-a"):
            jobs.wait(main)
    kube.wait_gone(**{"fl/group": NAME})


def test_nobody_waits_for_ever_for_a_pod_that_does_not_end(api: ClusterApi, kube: FakeKube) -> None:
    with pytest.raises(JobFailedError, match=r"not done after 1 s: raise deadline_seconds"):
        run(api, pod(FOR_EVER), cluster=CLUSTER.model_copy(update={"deadline_seconds": 1}))
    kube.wait_gone(**{"fl/group": NAME})


def test_a_job_that_somebody_removes_ends_the_wait(api: ClusterApi) -> None:
    def remove(_: str) -> None:
        api.remove_jobs("one", f"fl/group={NAME}")

    with pytest.raises(JobFailedError, match="somebody removed its Job"):
        run(api, pod(FOR_EVER), on_line=remove)


def test_an_eviction_is_said(api: ClusterApi, kube: FakeKube) -> None:
    def evict(_: str) -> None:
        kube.evict("one", kube.objects("Pod", "one")[0]["metadata"]["name"])

    with pytest.raises(JobFailedError, match=r"evicted from its node: .*memory"):
        run(api, pod(FOR_EVER), on_line=evict)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda api: api.jobs("one", "a=b"),
            r"did not list jobs in namespace one: .*forbidden.*give the account this right",
        ),
        (lambda api: api.log("one", "p"), r"did not read the log of pod p in namespace one: .*"),
    ],
)
def test_a_refusal_is_said_with_its_cure(
    api: ClusterApi,
    kube: FakeKube,
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[[ClusterApi], object],
    words: str,
) -> None:
    monkeypatch.setenv("KUBECONFIG", kube.kubeconfig_for("two", "site"))
    with pytest.raises(ClusterApiError) as caught:
        call(ClusterApi(connect()))
    assert re.search(words, str(caught.value))
    assert caught.value.status == 403

"""The job controller and the garbage collector of the fake cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from kubernetes import client, watch

from fl_assets_tests.cluster.fakekube import FakeKube
from fl_assets_tests.cluster.objects import IMAGE, Manifest, job, named

FOR_EVER = ("sleep", "1000")


@pytest.fixture(autouse=True)
def image(kube: FakeKube) -> None:
    kube.images[IMAGE] = {}


def status(kube: FakeKube, name: str = "j") -> Manifest:
    found = [j["status"] for j in kube.objects("Job") if j["metadata"]["name"] == name]
    return found[0] if found else {}


def condition(kube: FakeKube, type_: str) -> Manifest:
    """Wait for a condition of the job."""

    def found() -> list[Manifest]:
        return [c for c in status(kube).get("conditions", []) if c["type"] == type_]

    return kube.until(found, lambda: status(kube))[0]


def reasons(kube: FakeKube) -> list[str]:
    return [event["reason"] for event in kube.objects("Event")]


def running(kube: FakeKube, count: int = 1) -> list[Manifest]:
    def found() -> list[Manifest]:
        pods = [p for p in kube.objects("Pod") if p["status"]["phase"] == "Running"]
        return pods if len(pods) == count else []

    return kube.until(found, lambda: [p["status"] for p in kube.objects("Pod")])


def test_a_job_completes(kube: FakeKube) -> None:
    kube.apply(job("j", "true"))
    assert condition(kube, "Complete")["status"] == "True"
    assert status(kube)["succeeded"] == 1
    assert status(kube)["startTime"] <= status(kube)["completionTime"]
    assert {"active", "failed"}.isdisjoint(status(kube))
    (pod,) = kube.objects("Pod", **{"job-name": "j"})
    assert pod["status"]["phase"] == "Succeeded"
    assert pod["metadata"]["ownerReferences"][0]["controller"] is True


def test_a_failing_pod_is_tried_again_up_to_the_limit(kube: FakeKube) -> None:
    kube.apply(job("j", "sh", "-c", "exit 3", spec={"backoffLimit": 2}))
    assert condition(kube, "Failed")["reason"] == "BackoffLimitExceeded"
    assert status(kube)["failed"] == len(kube.objects("Pod")) == 3
    states = [p["status"]["containerStatuses"][0]["state"] for p in kube.objects("Pod")]
    assert [(s["terminated"]["exitCode"], s["terminated"]["reason"]) for s in states] == [
        (3, "Error")
    ] * 3


@pytest.mark.parametrize(("code", "pods"), [(69, 1), (3, 3)])
def test_an_exit_code_of_the_failure_policy_ends_the_job_at_once(
    kube: FakeKube, code: int, pods: int
) -> None:
    codes = {"containerName": "main", "operator": "In", "values": [69]}
    policy = {"rules": [{"action": "FailJob", "onExitCodes": codes}]}
    spec = {"backoffLimit": 2, "podFailurePolicy": policy}
    kube.apply(job("j", "sh", "-c", f"exit {code}", spec=spec))
    failed = condition(kube, "Failed")
    assert len(kube.objects("Pod")) == pods
    assert failed["reason"] == ("PodFailurePolicy" if pods == 1 else "BackoffLimitExceeded")
    assert ("exit code 69 matching FailJob rule at index 0" in failed["message"]) == (pods == 1)


def test_a_killed_pod_is_replaced_and_the_job_completes(kube: FakeKube, tmp_path: Any) -> None:
    first = f"test -e {tmp_path}/second || {{ touch {tmp_path}/second; exec sleep 1000; }}"
    kube.apply(job("j", "sh", "-c", first, spec={"backoffLimit": 1}))
    name = running(kube)[0]["metadata"]["name"]
    kube.until((tmp_path / "second").exists)
    kube.kill_pod("default", name)
    condition(kube, "Complete")
    assert (status(kube)["failed"], status(kube)["succeeded"]) == (1, 1)


def test_a_job_past_its_deadline_ends_with_its_pods(kube: FakeKube) -> None:
    kube.apply(job("j", *FOR_EVER, spec={"activeDeadlineSeconds": 1}))
    failed = condition(kube, "Failed")
    assert failed["reason"] == "DeadlineExceeded"
    assert failed["message"] == "Job was active longer than specified deadline"
    kube.until(lambda: kube.objects("Pod") == kube.processes() == [])
    assert "DeadlineExceeded" in reasons(kube)


def test_without_its_account_a_job_only_tells_so_in_events(kube: FakeKube) -> None:
    spec = {"activeDeadlineSeconds": 1}
    kube.apply(job("j", "true", serviceAccountName="absent", spec=spec))
    event = kube.until(lambda: kube.objects("Event"))[0]
    assert (event["reason"], event["type"]) == ("FailedCreate", "Warning")
    assert event["message"] == (
        'Error creating: pods "j-" is forbidden: error looking up service account '
        'default/absent: serviceaccount "absent" not found'
    )
    assert condition(kube, "Failed")["reason"] == "DeadlineExceeded"
    assert kube.objects("Pod") == []


def test_an_account_that_comes_later_is_soon_enough(kube: FakeKube) -> None:
    kube.apply(job("j", "true", serviceAccountName="late"))
    kube.until(lambda: "FailedCreate" in reasons(kube))
    kube.apply(named("ServiceAccount", "late", "default"))
    condition(kube, "Complete")


def test_a_suspended_job_has_no_pods(kube: FakeKube, batch: client.BatchV1Api) -> None:
    kube.apply(job("j", *FOR_EVER))
    running(kube)
    batch.patch_namespaced_job("j", "default", {"spec": {"suspend": True}})
    kube.until(lambda: kube.objects("Pod") == [])
    assert "startTime" not in kube.until(lambda: status(kube) or {"active": 0})
    batch.patch_namespaced_job("j", "default", {"spec": {"suspend": False}})
    running(kube)
    assert "failed" not in status(kube)


def test_a_job_may_have_several_pods(kube: FakeKube) -> None:
    kube.apply(job("j", "true", spec={"completions": 3, "parallelism": 2}))
    condition(kube, "Complete")
    assert status(kube)["succeeded"] == len(kube.objects("Pod")) == 3


def test_a_finished_job_goes_when_its_time_is_over(kube: FakeKube) -> None:
    kube.apply(job("j", "true", labels={"g": "1"}, spec={"ttlSecondsAfterFinished": 0}))
    kube.until(lambda: "Completed" in reasons(kube))
    kube.wait_gone(g="1")


def test_by_default_the_pods_of_a_removed_job_stay(
    kube: FakeKube, batch: client.BatchV1Api
) -> None:
    kube.apply(job("j", *FOR_EVER))
    running(kube)
    batch.delete_namespaced_job("j", "default")
    (pod,) = kube.objects("Pod")
    assert pod["metadata"]["ownerReferences"] == []
    assert len(kube.processes()) == 1
    assert len(kube.leftovers()) == 2


@pytest.mark.parametrize("policy", ["Background", "Foreground"])
def test_all_that_a_job_owns_goes_with_it(
    kube: FakeKube, batch: client.BatchV1Api, policy: str
) -> None:
    labels = {"fl/group": "g"}
    kube.apply(job("j", *FOR_EVER, labels=labels), job("k", *FOR_EVER, labels=labels))
    running(kube, 2)
    uid = kube.objects("Job")[0]["metadata"]["uid"]
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": uid}
    for kind, fields in {"Secret": {}, "Service": {"spec": {"ports": [{"port": 1}]}}}.items():
        owned = named(kind, "owned", "default", labels=labels, **fields)
        owned["metadata"]["ownerReferences"] = [owner]
        kube.apply(owned)
    assert len(kube.leftovers(**labels)) == 8
    batch.delete_collection_namespaced_job(
        "default", label_selector="fl/group=g", propagation_policy=policy
    )
    kube.wait_gone(**labels)


def test_in_the_foreground_the_owner_goes_last(
    kube: FakeKube, connection: client.ApiClient
) -> None:
    batch, core = client.BatchV1Api(connection), client.CoreV1Api(connection)
    kube.apply(job("j", *FOR_EVER))
    running(kube)
    since = batch.list_namespaced_job("default").metadata.resource_version
    batch.delete_namespaced_job("j", "default", propagation_policy="Foreground")
    kube.wait_gone()

    def gone(ask: Callable[..., Any]) -> int:
        """The version at which the object went."""
        told = watch.Watch().stream(ask, "default", resource_version=since, timeout_seconds=10)
        last = next(event["object"] for event in told if event["type"] == "DELETED")
        return int(last.metadata.resource_version)

    assert gone(core.list_namespaced_pod) < gone(batch.list_namespaced_job)

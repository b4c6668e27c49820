from typing import Any

import pytest

from fl_assets.cluster.failures import job_state, trouble, why_ended, why_failed

IMAGE = "registry/site:9"


def pod(status: dict[str, Any]) -> dict[str, Any]:
    limits = {"resources": {"limits": {"memory": "2Gi"}}}
    return {"metadata": {"name": "p"}, "spec": {"containers": [limits]}, "status": status}


def waiting(reason: str, message: str) -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": message}}
    statuses = [{"name": "site", "image": IMAGE, "state": state}]
    return pod({"phase": "Pending", "containerStatuses": statuses})


def ended(code: int, reason: str = "Error", message: str = "") -> dict[str, Any]:
    state = {"terminated": {"exitCode": code, "reason": reason, "message": message}}
    return pod({"phase": "Failed", "containerStatuses": [{"name": "site", "state": state}]})


def event(reason: str, message: str, kind: str = "Warning") -> dict[str, Any]:
    return {"type": kind, "reason": reason, "message": message}


def job(**condition: str) -> dict[str, Any]:
    conditions = [{"status": "True", **condition}] if condition else []
    return {"spec": {"activeDeadlineSeconds": 90}, "status": {"conditions": conditions}}


@pytest.mark.parametrize(
    ("pods", "events", "words", "final"),
    [
        (
            [waiting("ImagePullBackOff", "not found")],
            [],
            f"{IMAGE} cannot be pulled: not found; push it",
            True,
        ),
        ([waiting("ErrImagePull", "denied")], [], "cannot be pulled: denied", True),
        ([waiting("InvalidImageName", "bad")], [], "no name of an image", True),
        (
            [waiting("CreateContainerConfigError", 'configmap "fla-environment" not found')],
            [],
            'lacks configuration: configmap "fla-environment" not found; the chart fl-consortium',
            True,
        ),
        ([waiting("RunContainerError", "no python")], [], "cannot be started: no python", True),
        (
            [],
            [event("FailedCreate", 'error looking up service account a/site: "site" not found')],
            "its service account is missing",
            True,
        ),
        (
            [],
            [event("FailedCreate", "forbidden: violates PodSecurity")],
            "was not admitted: forbidden: violates PodSecurity",
            True,
        ),
        ([], [event("FailedCreate", "exceeded quota: pods")], "quota is used up", False),
        (
            [pod({"phase": "Pending"})],
            [event("FailedScheduling", "0/2 nodes are available")],
            "no node takes it: 0/2 nodes are available; let the node group grow",
            False,
        ),
        (
            [
                pod(
                    {
                        "phase": "Pending",
                        "conditions": [
                            {"type": "PodScheduled", "reason": "Unschedulable", "message": "full"}
                        ],
                    }
                )
            ],
            [],
            "no node takes it: full",
            False,
        ),
        (
            [pod({"phase": "Pending"})],
            [event("FailedMount", 'secret "fl-x" not found')],
            'files are not there: secret "fl-x" not found',
            False,
        ),
    ],
)
def test_why_a_pod_does_not_run(
    pods: list[dict[str, Any]], events: list[dict[str, Any]], words: str, final: bool
) -> None:
    found = trouble(pods, events)
    assert found is not None
    assert words in found.words
    assert found.final == final


@pytest.mark.parametrize("reason", ["ContainerCreating", "PodInitializing"])
def test_a_pod_that_is_about_to_start_is_in_no_trouble(reason: str) -> None:
    events = [event("Scheduled", "assigned", "Normal"), event("Pulling", "image", "Normal")]
    assert trouble([waiting(reason, "")], events) is None
    assert trouble([], []) is None


def test_the_newest_pod_counts() -> None:
    pods = [waiting("ImagePullBackOff", "not found"), pod({"phase": "Pending"})]
    assert trouble(pods, []) is None


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (ended(137, "OOMKilled"), r"ran out of memory \(limit 2Gi\): raise `memory`"),
        (ended(1, message="NoSiteError: no\n"), "exit code 1: NoSiteError: no$"),
        (ended(137), r"was killed \(SIGKILL\) and left no message.*start the run again"),
        (ended(3), "exit code 3 and left no message: its own log"),
        (
            pod({"phase": "Failed", "reason": "Evicted", "message": "low on memory"}),
            "evicted from its node: low on memory; give it more memory",
        ),
        (pod({"phase": "Failed", "reason": "NodeLost"}), r"gave it up \(NodeLost: no message\)"),
    ],
)
def test_why_a_pod_has_ended(found: dict[str, Any], words: str) -> None:
    import re

    assert re.search(words, why_ended(found) or "")


def test_a_pod_that_runs_or_did_well_has_not_failed() -> None:
    assert why_ended(pod({"phase": "Running"})) is None
    assert why_ended(pod({"phase": "Succeeded"})) is None


def test_why_a_job_has_failed() -> None:
    late = job(type="Failed", reason="DeadlineExceeded", message="Job was active too long")
    assert "not done after 90 s: raise deadline_seconds" in why_failed(late, [ended(1)])
    spent = job(type="Failed", reason="BackoffLimitExceeded", message="limit")
    pods = [ended(1, message="first"), ended(1, message="second"), pod({"phase": "Running"})]
    assert why_failed(spent, pods) == "it ended with exit code 1: second (the last of 2 attempts)"
    assert "BackoffLimitExceeded: limit; its pods are gone" in why_failed(spent, [])


def test_how_far_a_job_is() -> None:
    assert job_state(job()) == "unfinished"
    assert job_state(job(type="Complete")) == "complete"
    assert job_state(job(type="Failed")) == "failed"
    # Kubernetes says first that it is about to fail.
    assert job_state(job(type="FailureTarget")) == "unfinished"

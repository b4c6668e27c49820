"""Why a Job does not run, or has failed, in words that say what to do.

What is read here is what Kubernetes itself tells, and what a pod wrote into its termination
message; never a log, for a hospital's may quote a patient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fl_assets.cluster.api import Manifest

JobState = Literal["unfinished", "complete", "failed"]

_REGISTRY = (
    "push it, correct FLA_SITE_IMAGE or FLA_SERVER_IMAGE, or let the nodes read its registry"
)
_CONFIGURATION = (
    "the chart fl-consortium makes the ConfigMaps consortium and fla-environment in every "
    "namespace: upgrade it"
)
_IMAGE_LACKS = "build the image from this project's Dockerfile"
_WAITING = {
    "ErrImagePull": ("the image {image} cannot be pulled", _REGISTRY),
    "ImagePullBackOff": ("the image {image} cannot be pulled", _REGISTRY),
    "InvalidImageName": ("{image} is no name of an image", _REGISTRY),
    "ErrImageNeverPull": ("the image {image} is not on the node", _REGISTRY),
    "CreateContainerConfigError": ("its container lacks configuration", _CONFIGURATION),
    "CreateContainerError": ("its container cannot be created", _IMAGE_LACKS),
    "RunContainerError": ("its container cannot be started", _IMAGE_LACKS),
}
_SIGNALS = {137: "SIGKILL", 143: "SIGTERM"}


@dataclass(frozen=True)
class Trouble:
    """Why a Job's pod does not run yet.

    Attributes:
        words: with the cure.
        final: whether to wait longer is in vain.
    """

    words: str
    final: bool


def job_state(job: Manifest) -> JobState:
    """Return how far a Job is."""
    if _condition(job, "Complete"):
        return "complete"
    return "failed" if _condition(job, "Failed") else "unfinished"


def is_running(pod: Manifest) -> bool:
    """Tell whether a pod's container runs or has run."""
    return pod.get("status", {}).get("phase") in ("Running", "Succeeded", "Failed")


def trouble(pods: Sequence[Manifest], events: Sequence[Manifest]) -> Trouble | None:
    """Return why a Job's pod does not run, if anything says so.

    Args:
        pods: of the Job, the newest last.
        events: about the Job and its pods, the newest last.
    """
    if pods and (found := _waiting(pods[-1])):
        return found
    for event in reversed(events):
        if event.get("type") == "Warning" and (found := _event(event)):
            return found
    if pods and (found := _unscheduled(pods[-1])):
        return found
    return None


def why_failed(job: Manifest, pods: Sequence[Manifest]) -> str:
    """Return why a Job has failed."""
    condition = _condition(job, "Failed") or {}
    last_words = [words for pod in pods if (words := why_ended(pod))]
    if condition.get("reason") == "DeadlineExceeded":
        seconds = job["spec"].get("activeDeadlineSeconds")
        return (
            f"it was not done after {seconds} s: raise deadline_seconds in consortium.yaml's "
            "`cluster`, or find out what takes so long"
        )
    if last_words:
        attempts = f" (the last of {len(last_words)} attempts)" if len(last_words) > 1 else ""
        return f"{last_words[-1]}{attempts}"
    said = ": ".join(filter(None, (condition.get("reason"), condition.get("message"))))
    return f"{said or 'Kubernetes does not say why'}; its pods are gone and left no message"


def why_ended(pod: Manifest) -> str | None:
    """Return why a pod has failed; None where it has not."""
    status = pod.get("status", {})
    if status.get("phase") != "Failed":
        return None
    if status.get("reason") == "Evicted":
        return (
            f"it was evicted from its node: {_text(status)}; give it more memory in "
            "consortium.yaml's `cluster`, or use larger nodes"
        )
    ended = next(
        (c["state"]["terminated"] for c in _containers(pod) if "terminated" in c.get("state", {})),
        None,
    )
    if ended is None:
        reason = status.get("reason") or "no reason given"
        return f"its node gave it up ({reason}: {_text(status)}); start the run again"
    return _terminated(pod, ended)


def _terminated(pod: Manifest, ended: Manifest) -> str:
    code, message = ended.get("exitCode"), (ended.get("message") or "").strip()
    if ended.get("reason") == "OOMKilled":
        limit = pod["spec"]["containers"][0].get("resources", {}).get("limits", {}).get("memory")
        return (
            f"it ran out of memory (limit {limit}): raise `memory` in consortium.yaml's `cluster`"
        )
    if message:
        return f"it ended with exit code {code}: {message}"
    if code in _SIGNALS:
        return (
            f"it was killed ({_SIGNALS[code]}) and left no message: its node may have gone down, "
            "or somebody deleted the pod; start the run again"
        )
    return (
        f"it ended with exit code {code} and left no message: its own log, which its namespace's "
        "owner can read, says more"
    )


def _waiting(pod: Manifest) -> Trouble | None:
    for container in _containers(pod):
        waiting = container.get("state", {}).get("waiting") or {}
        if waiting.get("reason") in _WAITING:
            what, cure = _WAITING[waiting["reason"]]
            what = what.format(image=container.get("image") or "of its pod")
            return Trouble(f"{what}: {_text(waiting)}; {cure}", final=True)
    return None


def _unscheduled(pod: Manifest) -> Trouble | None:
    for condition in pod.get("status", {}).get("conditions") or []:
        if condition.get("reason") == "Unschedulable":
            return Trouble(_no_node(_text(condition)), final=False)
    return None


def _event(event: Manifest) -> Trouble | None:
    text = _text(event)
    match event.get("reason"):
        case "FailedCreate":
            return _refused(text)
        case "FailedScheduling":
            return Trouble(_no_node(text), final=False)
        case "FailedMount":
            # The Secret of a pod comes a moment after it, and Kubernetes tries again.
            return Trouble(
                f"its files are not there: {text}; {_CONFIGURATION}, the run makes the Secret",
                final=False,
            )
    return None


def _refused(text: str) -> Trouble:
    if "service account" in text or "serviceaccount" in text:
        return Trouble(
            f"its service account is missing: {text}; the chart fl-consortium makes it",
            final=True,
        )
    if "quota" in text:
        return Trouble(
            f"the namespace's quota is used up: {text}; raise it, or wait for other pods to end",
            final=False,
        )
    return Trouble(
        f"its pod was not admitted: {text}; let the namespace's policies admit it, or start the "
        "run again if the software was upgraded meanwhile",
        final=True,
    )


def _no_node(text: str) -> str:
    return (
        f"no node takes it: {text}; let the node group grow, or correct node_selector, "
        "tolerations and resources in consortium.yaml's `cluster`"
    )


def _containers(pod: Manifest) -> list[Manifest]:
    return pod.get("status", {}).get("containerStatuses") or []


def _condition(job: Manifest, kind: str) -> Manifest | None:
    conditions: list[Manifest] = job.get("status", {}).get("conditions") or []
    return next((c for c in conditions if c["type"] == kind and c["status"] == "True"), None)


def _text(said: Manifest) -> str:
    return (said.get("message") or "no message").strip()

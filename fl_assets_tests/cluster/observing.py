"""What tests see of the pod ``p`` of a fake cluster."""

from __future__ import annotations

from typing import Any

from fl_assets_tests.cluster.fakekube import FakeKube
from fl_assets_tests.cluster.objects import Manifest, pod


def status(kube: FakeKube) -> Manifest:
    (found,) = [p["status"] for p in kube.objects("Pod") if p["metadata"]["name"] == "p"]
    return found


def state(kube: FakeKube) -> Manifest:
    """What the container does."""
    containers = status(kube).get("containerStatuses") or [{"state": {}}]
    return containers[0]["state"]


def waits_for(kube: FakeKube, reason: str) -> str:
    """Wait until the container waits for that reason; return the message."""

    def waits() -> bool:
        return state(kube).get("waiting", {}).get("reason") == reason

    kube.until(waits, lambda: status(kube))
    return state(kube)["waiting"].get("message", "")


def ended(kube: FakeKube) -> Manifest:
    """Wait for the end of the container's process."""
    return kube.until(lambda: state(kube).get("terminated"), lambda: status(kube))


def events(kube: FakeKube) -> list[tuple[str, str]]:
    return [(event["reason"], event["message"]) for event in kube.objects("Event")]


def log_of(kube: FakeKube, *command: str, **more: Any) -> str:
    """The log of a pod that runs a command to its good end."""
    kube.apply(pod("p", *command, **more))
    end = ended(kube)
    assert end["exitCode"] == 0, kube.logs("default", "p")
    return kube.logs("default", "p")

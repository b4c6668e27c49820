"""The status of a pod with one container."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fl_assets_tests.cluster.fakekube.kinds import POD, Manifest
from fl_assets_tests.cluster.fakekube.store import Store, stamp


class PodStatus:
    """Writes what a kubelet and the scheduler write."""

    def __init__(self, store: Store, pod: Manifest) -> None:
        self._store = store
        self._pod = pod
        self._container = pod["spec"]["containers"][0]

    def unschedulable(self, why: str) -> None:
        """No node takes the pod."""
        self._write(lambda s: _condition(s, "PodScheduled", "False", "Unschedulable", why))

    def scheduled(self, node: str, address: str) -> None:
        """The pod has a node and an address; its container waits."""

        def write(pod: Manifest) -> None:
            pod["spec"]["nodeName"] = node
            _condition(pod["status"], "PodScheduled", "True")
            pod["status"] |= {
                "podIP": address,
                "podIPs": [{"ip": address}],
                "hostIP": "127.0.0.1",
                "startTime": stamp(),
            }

        self._store.update(self._pod, write)
        self.waiting("ContainerCreating")

    def waiting(self, reason: str, message: str = "") -> None:
        """The container waits for something."""
        self._state({"waiting": {"reason": reason} | ({"message": message} if message else {})})

    def waiting_for(self) -> str:
        """Return the reason why the container waits."""
        meta = self._pod["metadata"]
        pod = self._store.get(POD, meta["namespace"], meta["name"]) or {"status": {}}
        states = [c["state"] for c in pod["status"].get("containerStatuses") or []]
        return "".join(state.get("waiting", {}).get("reason", "") for state in states)

    def running(self) -> None:
        """The container's process was started."""
        self._state({"running": {"startedAt": stamp()}}, phase="Running")

    def ended(self, code: int, how: str, said: str, reason: str = "", message: str = "") -> None:
        """The container's process has ended; ``reason`` and ``message`` are those of the pod."""

        def write(status: Manifest) -> None:
            state = status["containerStatuses"][0]["state"]
            terminated = {
                "exitCode": code,
                "reason": how,
                "startedAt": state.get("running", {}).get("startedAt", stamp()),
                "finishedAt": stamp(),
            } | ({"message": said} if said else {})
            self._fill(status, {"terminated": terminated})
            status["phase"] = "Failed" if code or reason else "Succeeded"
            if reason:
                status |= {"reason": reason, "message": message}
            if reason == "Evicted":
                _condition(status, "DisruptionTarget", "True", "TerminationByKubelet", message)

        self._write(write)

    def _state(self, state: Manifest, phase: str = "Pending") -> None:
        def write(status: Manifest) -> None:
            self._fill(status, state)
            status["phase"] = phase

        self._write(write)

    def _fill(self, status: Manifest, state: Manifest) -> None:
        runs = "running" in state
        status["containerStatuses"] = [
            {
                "name": self._container["name"],
                "image": self._container["image"],
                "imageID": "",
                "ready": runs,
                "started": runs,
                "restartCount": 0,
                "state": state,
            }
        ]
        _condition(status, "Ready", "True" if runs else "False")

    def _write(self, alter: Callable[[Manifest], Any]) -> None:
        self._store.update(self._pod, lambda pod: alter(pod["status"]))


def _condition(
    status: Manifest, type_: str, state: str, reason: str = "", message: str = ""
) -> None:
    conditions = status.setdefault("conditions", [])
    known = next((c for c in conditions if c["type"] == type_), None)
    said = {"status": state} | ({"reason": reason, "message": message} if reason else {})
    if known and said.items() <= known.items():
        return
    status["conditions"] = [c for c in conditions if c["type"] != type_]
    status["conditions"].append({"type": type_, "lastTransitionTime": stamp(), **said})

"""The kubelet of all nodes, with the scheduler: a worker for each pod."""

from __future__ import annotations

from fl_assets_tests.cluster.fakekube.errors import ApiError
from fl_assets_tests.cluster.fakekube.kinds import POD, Manifest
from fl_assets_tests.cluster.fakekube.logs import Log
from fl_assets_tests.cluster.fakekube.worker import Surroundings, Worker


class Kubelet:
    """Starts a worker for each new pod, and finds it by the pod's name."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._store = surroundings.api.store
        # By the pod's uid, in the order of their start.
        self._workers: dict[str, Worker] = {}

    def run(self) -> None:
        """Start workers until the store closes."""
        while not self._store.closed:
            for pod in self._store.of_kind(POD):
                uid = pod["metadata"]["uid"]
                if uid not in self._workers:
                    self._workers[uid] = Worker(self._surroundings, pod)
                    self._workers[uid].start()
            self._store.wait(0.05)

    def newest(self, namespace: str, name: str) -> Worker | None:
        """Return the worker of the newest pod of a name, gone or not."""
        found = [w for w in list(self._workers.values()) if w.place == (namespace, name)]
        return found[-1] if found else None

    def log(self, namespace: str, name: str) -> Log:
        """Return the log of a pod's container; 404 without the pod, 400 before its start."""
        pod = self._surroundings.api.get(POD, namespace, name)
        worker = self._workers.get(pod["metadata"]["uid"])
        if worker is None or not worker.started:
            container = pod["spec"]["containers"][0]["name"]
            raise ApiError(
                400,
                f'container "{container}" in pod "{name}" is waiting to start: {reason_of(pod)}',
            )
        return worker.log

    def processes(self) -> list[int]:
        """Return the ids of the living processes of all pods."""
        return [p for worker in list(self._workers.values()) for p in worker.living()]

    def close(self) -> None:
        """Wait for the workers, which end with the store."""
        for worker in self._workers.values():
            worker.join()


def reason_of(pod: Manifest) -> str:
    """Return why a pod's container waits."""
    for container in pod["status"].get("containerStatuses") or []:
        waiting = container["state"].get("waiting")
        if waiting:
            return str(waiting["reason"])
    return "ContainerCreating"

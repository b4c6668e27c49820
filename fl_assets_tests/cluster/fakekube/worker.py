"""One pod from its scheduling to its end."""

from __future__ import annotations

import shutil
import signal as signals
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fl_assets_tests.cluster.fakekube.api import Api
from fl_assets_tests.cluster.fakekube.container import (
    base_environment,
    command_of,
    environment_of,
)
from fl_assets_tests.cluster.fakekube.events import record
from fl_assets_tests.cluster.fakekube.kinds import ACCOUNT, NODE, POD, Manifest
from fl_assets_tests.cluster.fakekube.logs import Log
from fl_assets_tests.cluster.fakekube.processes import Processes
from fl_assets_tests.cluster.fakekube.references import MissingError
from fl_assets_tests.cluster.fakekube.scheduler import place
from fl_assets_tests.cluster.fakekube.status import PodStatus
from fl_assets_tests.cluster.fakekube.volumes import Paths, write_volumes

# Of what a container says about its end; of its log if it says nothing.
LONGEST_MESSAGE = 4096
LONGEST_FALLBACK = 2048
DEFAULT_MESSAGE_PATH = "/dev/termination-log"
RETRY_SECONDS = 0.1


@dataclass(frozen=True)
class Surroundings:
    """What all pods share."""

    api: Api
    folder: Path
    images: dict[str, dict[str, str]]
    identities: dict[tuple[str, str], dict[str, str]]
    kubeconfig_for: Callable[[str, str], str]
    token_of: Callable[[str, str], str]
    host_paths: tuple[str, ...]


class GoneError(Exception):
    """The pod was removed, or the cluster ends, before its process began."""


class Worker(threading.Thread):
    """Schedules a pod, prepares it, runs its process and says how that ended."""

    def __init__(self, surroundings: Surroundings, pod: Manifest) -> None:
        meta = pod["metadata"]
        super().__init__(name=f"pod-{meta['name']}", daemon=True)
        self.place = (meta["namespace"], meta["name"])
        self.log = Log()
        self._around = surroundings
        self._api, self._store = surroundings.api, surroundings.api.store
        self._folder: Path = surroundings.folder / meta["uid"]
        self._message_file: Path = self._folder / "termination-log"
        self._pod = pod
        self._status = PodStatus(self._store, pod)
        self._processes: Processes | None = None
        self._verdict: tuple[str, str] = ("", "")

    @property
    def started(self) -> bool:
        """Whether the process was started."""
        return self._processes is not None

    def living(self) -> list[int]:
        """Return the ids of the pod's processes that run."""
        # After the worker's end there is none, and looking takes time.
        return self._processes.living() if self._processes and self.is_alive() else []

    def signal(self, number: int) -> None:
        """Send a signal to all processes of the pod."""
        if self._processes:
            self._processes.signal(number)

    def oom_kill(self) -> None:
        """End the container for want of memory."""
        self._verdict = ("OOMKilled", "")
        self.signal(signals.SIGKILL)

    def evict(self, message: str) -> None:
        """End the pod for its node's sake."""
        self._verdict = ("Evicted", message)
        self.signal(signals.SIGKILL)

    def run(self) -> None:
        """Live the pod's life."""
        try:
            for step in (self._schedule, self._pull, self._begin):
                while not step():
                    self._store.wait(RETRY_SECONDS)
                    self._check()
            if self._processes:
                self._supervise(self._processes)
        except GoneError:
            pass
        finally:
            self.log.complete()
            shutil.rmtree(self._folder, ignore_errors=True)
            self._bury()

    def _check(self) -> None:
        pod = self._current()
        if self._store.closed or pod is None or pod["metadata"].get("deletionTimestamp"):
            raise GoneError

    def _current(self) -> Manifest | None:
        namespace, name = self.place
        pod = self._store.get(POD, namespace, name)
        same = pod and pod["metadata"]["uid"] == self._pod["metadata"]["uid"]
        return pod if same else None

    def _schedule(self) -> bool:
        node, why = place(self._store.of_kind(NODE), self._pod["spec"])
        if not node:
            self._status.unschedulable(why)
            self._event("FailedScheduling", why, "default-scheduler")
            return False
        self._status.scheduled(node, self._api.admission.addresses.pod())
        namespace, name = self.place
        said = f"Successfully assigned {namespace}/{name} to {node}"
        self._event("Scheduled", said, "default-scheduler", "Normal")
        return True

    def _pull(self) -> bool:
        image = self._pod["spec"]["containers"][0]["image"]
        if image in self._around.images:
            return True
        error = f'failed to pull and unpack image "{image}": {image}: not found'
        if self._status.waiting_for() == "ErrImagePull":
            self._status.waiting("ImagePullBackOff", f'Back-off pulling image "{image}": {error}')
            self._event("BackOff", f'Back-off pulling image "{image}"', type_="Normal")
        else:
            self._status.waiting("ErrImagePull", error)
            self._event("Failed", f'Failed to pull image "{image}": {error}')
        return False

    def _begin(self) -> bool:
        pod = self._current()
        if pod is None:
            raise GoneError
        namespace, account = pod["metadata"]["namespace"], pod["spec"]["serviceAccountName"]
        home = self._folder / "home"
        home.mkdir(parents=True, exist_ok=True)
        token = self._around.token_of(namespace, account)
        try:
            volumes = write_volumes(self._store, pod, self._folder / "volumes", token)
        except MissingError as error:
            self._status.waiting("ContainerCreating")
            self._event("FailedMount", str(error))
            return False
        path = pod["spec"]["containers"][0].get("terminationMessagePath", DEFAULT_MESSAGE_PATH)
        paths = Paths(volumes | {path: str(self._message_file)}, self._around.host_paths)
        base = {
            **base_environment(home),
            "FLA_TERMINATION_LOG": str(self._message_file),
            **({"TMPDIR": volumes["/tmp"]} if "/tmp" in volumes else {}),
            **self._kubeconfig(pod),
            **self._around.images.get(pod["spec"]["containers"][0]["image"], {}),
            **self._around.identities.get((namespace, account), {}),
        }
        try:
            environment = environment_of(self._store, pod, base, paths)
        except MissingError as error:
            self._status.waiting("CreateContainerConfigError", str(error))
            self._event("Failed", f"Error: {error}")
            return False
        command = command_of(pod, environment, paths)
        try:
            self._processes = Processes(pod["metadata"]["uid"], command, home)
        except OSError as error:
            message = f"failed to create containerd task: exec: {error}"
            self._event("Failed", f"Error: {message}")
            self._status.ended(128, "StartError", message)
        else:
            self._status.running()
            self._event("Started", "Started container", type_="Normal")
        return True

    def _kubeconfig(self, pod: Manifest) -> dict[str, str]:
        namespace, name = pod["metadata"]["namespace"], pod["spec"]["serviceAccountName"]
        account = self._store.get(ACCOUNT, namespace, name) or {}
        key = "automountServiceAccountToken"
        if not pod["spec"].get(key, account.get(key, True)):
            return {}
        return {"KUBECONFIG": self._around.kubeconfig_for(namespace, name)}

    def _supervise(self, processes: Processes) -> None:
        assert processes.main.stdout
        pump = threading.Thread(target=self.log.fill, args=(processes.main.stdout,), daemon=True)
        pump.start()
        seconds = self._pod["spec"].get("activeDeadlineSeconds", float("inf"))
        deadline, killed_at = time.monotonic() + seconds, float("inf")
        while processes.main.poll() is None:
            pod = self._current()
            now = time.monotonic()
            if now > deadline:
                self._verdict = ("DeadlineExceeded", "Pod was active longer than its deadline")
            if self._store.closed or pod is None or now > min(killed_at, deadline):
                break
            if pod["metadata"].get("deletionTimestamp") and killed_at == float("inf"):
                killed_at = now + pod["metadata"]["deletionGracePeriodSeconds"]
                self._event("Killing", "Stopping container", type_="Normal")
                processes.terminate()
            self._store.wait(0.05)
        code = processes.end()
        # The log is whole before the pod is done.
        pump.join()
        self._finish(code)

    def _finish(self, code: int) -> None:
        reason, message = self._verdict
        said = self._last_words(code)
        if reason in ("Evicted", "DeadlineExceeded"):
            self._event(reason, message)
            self._status.ended(code, "Error", said, reason, message)
        else:
            self._status.ended(code, reason or ("Error" if code else "Completed"), said)

    def _last_words(self, code: int) -> str:
        container = self._pod["spec"]["containers"][0]
        if self._message_file.is_file():
            text = self._message_file.read_text(errors="replace")
            if text:
                return text[:LONGEST_MESSAGE]
        if code and container.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            return self.log.text()[-LONGEST_FALLBACK:]
        return ""

    def _bury(self) -> None:
        """Remove the pod if somebody wants that, and end with it if not even the pod is there."""
        pod = self._current()
        if pod and pod["metadata"].get("deletionTimestamp"):
            self._store.remove(pod)

    def _event(
        self, reason: str, message: str, source: str = "kubelet", type_: str = "Warning"
    ) -> None:
        record(self._store, self._pod, reason, message, source, type_)

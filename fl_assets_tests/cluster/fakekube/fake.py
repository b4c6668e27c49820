"""The whole fake cluster, as tests use it."""

from __future__ import annotations

import base64
import copy
import json
import shutil
import signal as signals
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from fl_assets.federation.deployment.pki import Authority
from fl_assets_tests.cluster.fakekube.access import ADMIN, Access
from fl_assets_tests.cluster.fakekube.api import Api
from fl_assets_tests.cluster.fakekube.garbage import collect_garbage
from fl_assets_tests.cluster.fakekube.http_server import HttpServer, Request
from fl_assets_tests.cluster.fakekube.jobs import run_jobs
from fl_assets_tests.cluster.fakekube.kinds import (
    BY_NAME,
    JOB,
    POD,
    SECRET,
    SERVICE,
    Manifest,
    kind_of,
)
from fl_assets_tests.cluster.fakekube.kubelet import Kubelet
from fl_assets_tests.cluster.fakekube.proxy import Proxy
from fl_assets_tests.cluster.fakekube.selection import Selector
from fl_assets_tests.cluster.fakekube.store import Store
from fl_assets_tests.cluster.fakekube.worker import Surroundings, Worker

T = TypeVar("T")

# As in the cluster of Terraform: a system pool, and a tainted one for trainings.
NODES: tuple[Manifest, ...] = (
    {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "system-1", "labels": {"fl/pool": "system"}},
    },
    {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "training-1", "labels": {"fl/pool": "training"}},
        "spec": {"taints": [{"key": "fl/training", "value": "true", "effect": "NoSchedule"}]},
    },
)


class FakeKube:
    """A Kubernetes cluster whose pods are processes of this machine, for a ``with`` statement.

    As in a real cluster: every object is validated (422 names the field); namespaces and accounts
    must exist; pod security ``restricted`` where the namespace's label says so; admission policies,
    whose CEL is evaluated; RBAC for every caller but the administrator; jobs with retries,
    deadline, TTL and events; garbage collection by owner references; node selectors and taints;
    Secrets and ConfigMaps as environment and files; logs; watches.

    A pod's process:

    - It runs the command and arguments of the pod's only container in a process group of its own,
      in an empty folder, with a clean environment: PATH and HOME, then the image's (``images``),
      the identity of its account (``identities``), ``envFrom``, ``env``.
    - A program named ``python`` or ``python3``, with or without a folder, is the Python of the
      tests; another program that is not at its path is looked for beside that Python.
    - There are no mounts. A volume is a folder of the pod, and the path of that folder takes the
      place of the mount path wherever that stands in the command, the arguments and the values of
      ``env`` and ``envFrom``. The same is done with ``terminationMessagePath``, and
      ``FLA_TERMINATION_LOG`` names that file. A volume at ``/tmp`` is also ``TMPDIR``. Paths below
      ``host_paths`` stay as they are, as do the values of ``images`` and ``identities``.
    - Unless ``automountServiceAccountToken`` is false (of the pod, or else of its account),
      ``KUBECONFIG`` names a file with the account's token, in place of the files that a real pod
      finds under ``/var/run/secrets/kubernetes.io``.
    - ``status.podIP`` is an address in 127.97.0.0/16, and a Service has one in 127.96.0.0/16. On
      Linux all of them reach a process that listens on 0.0.0.0. If instead the process listens on
      its own pod's address, connections to the Service's are passed on to the running pods that
      the selector names: so two clusters, or two servers, can use one port at the same time.

    Refused, with the reason: more than one container a pod, an initial one, ``restartPolicy``
    other than ``Never``, affinity, indexed jobs, rules of pod failures but for ``FailJob`` of exit
    codes, JSON patches, dry runs, server-side apply. Without effect: probes, resources, quotas,
    network policies, users of a pod, ``readOnly`` of mounts and of the root file system,
    priorities, names in DNS. A process without a handler ends at SIGTERM, which in a real
    container, where it is process 1, it ignores.
    ``kubectl`` works as long as it speaks JSON: ``get``, ``apply``, ``delete``, ``wait``, ``logs``,
    ``auth can-i``, and not ``create KIND``; objects are applied one by one, not as a ``List``.

    Args:
        images: environment of each image that can be pulled; the pod of any other one has
            ``ErrImagePull``, then ``ImagePullBackOff``. May be changed at any time.
        identities: environment that pods get from (namespace, account), as web identity gives it
            on EKS. May be changed at any time.
        nodes: of the cluster; a system node and a tainted training node by default.
        host_paths: folders whose paths are the same in pods, such as a test's own folder.

    Attributes:
        url: of the API server, over HTTPS.
        kubeconfig: path of the administrator's kubeconfig.
        requests: what was asked over HTTP, oldest first; see ``Request``.
    """

    def __init__(
        self,
        images: Mapping[str, Mapping[str, str]] | None = None,
        identities: Mapping[tuple[str, str], Mapping[str, str]] | None = None,
        nodes: Iterable[Manifest] = NODES,
        host_paths: Iterable[Path | str] = (),
    ) -> None:
        self.images: dict[str, dict[str, str]] = {k: dict(v) for k, v in (images or {}).items()}
        self.identities = {k: dict(v) for k, v in (identities or {}).items()}
        self.requests: list[Request] = []
        self._folder = Path(tempfile.mkdtemp(prefix="fakekube-"))
        self._store = Store()
        self._access = Access(self._store)
        self._api = Api(self._store)
        self._kubelet = Kubelet(
            Surroundings(
                api=self._api,
                folder=self._folder / "pods",
                images=self.images,
                identities=self.identities,
                kubeconfig_for=self.kubeconfig_for,
                token_of=self._access.token_of,
                host_paths=(str(self._folder), *map(str, host_paths)),
            )
        )
        files = Authority().issue(self._folder)
        self._authority = base64.b64encode(files.ca.read_bytes()).decode()
        self._server = HttpServer(self._api, self._access, self._kubelet, self.requests, files)
        self._proxy = Proxy(self._store)
        self.url = self._server.url
        self.kubeconfig = self._write_kubeconfig("admin", self._access.admin_token, "default")
        self._threads = [
            threading.Thread(target=run, name=f"fakekube-{name}", daemon=True)
            for name, run in {
                "http": lambda: self._server.serve_forever(poll_interval=0.02),
                "jobs": lambda: run_jobs(self._api),
                "garbage": lambda: collect_garbage(self._api),
                "kubelet": self._kubelet.run,
                "proxy": self._proxy.run,
            }.items()
        ]
        self.apply(*_namespaces("default", "kube-system"), *nodes)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._store.close()
        self._server.close()
        for thread in self._threads:
            thread.join()
        self._kubelet.close()
        shutil.rmtree(self._folder)

    def kubeconfig_for(self, namespace: str, account: str) -> str:
        """Return the path of a kubeconfig with the rights of a ServiceAccount.

        The account may be made later; until then its token is refused (401).
        """
        token = self._access.token_of(namespace, account)
        return self._write_kubeconfig(f"{namespace}.{account}", token, namespace)

    def apply(self, *objects: Manifest) -> None:
        """Create objects, or replace them where they are, with an administrator's rights."""
        for manifest in objects:
            kind, meta = kind_of(manifest), manifest["metadata"]
            namespace = meta.get("namespace", "default") if kind.namespaced else None
            if self._store.get(kind, namespace, meta["name"]):
                self._api.replace(
                    kind, namespace, meta["name"], copy.deepcopy(manifest), ADMIN.user
                )
            else:
                self._api.create(kind, namespace, copy.deepcopy(manifest), ADMIN.user)

    def objects(self, kind: str, namespace: str | None = None, **labels: str) -> list[Manifest]:
        """Return copies of the objects of a kind (``"Job"``), of all namespaces if None.

        Labels whose key is no Python name are given as ``**{"fl/group": "g"}``.
        """
        wanted = Selector(BY_NAME[kind], labels=",".join(f"{k}={v}" for k, v in labels.items()))
        found = self._store.of_kind(BY_NAME[kind], namespace)
        return [copy.deepcopy(item) for item in found if wanted.matches(item)]

    def logs(self, namespace: str, name: str) -> str:
        """Return what a pod has written so far; also of a pod that is gone, the newest so named."""
        worker = self._kubelet.newest(namespace, name)
        assert worker, f"there never was a pod {namespace}/{name}"
        return worker.log.text()

    def processes(self) -> list[int]:
        """Return the ids of all living processes of pods, their children's too."""
        return self._kubelet.processes()

    def kill_pod(self, namespace: str, name: str, signal: int = signals.SIGKILL) -> None:
        """Send a signal to all processes of a pod: it fails with 128 + signal, reason Error."""
        self._running(namespace, name).signal(signal)

    def oom_kill(self, namespace: str, name: str) -> None:
        """End a pod as the kernel does for want of memory: exit 137, reason OOMKilled."""
        self._running(namespace, name).oom_kill()

    def evict(self, namespace: str, name: str, message: str = "") -> None:
        """End a pod as a node does that is short of memory: phase Failed, reason Evicted."""
        self._running(namespace, name).evict(
            message or "The node was low on resource: memory. Container was using too much."
        )

    def leftovers(self, **labels: str) -> list[str]:
        """Return names of all jobs, pods, secrets and services with labels, and living processes.

        Empty when nothing is left. Processes are those of any pod. Garbage is collected in
        the background: ``wait_gone`` waits for it.
        """
        names = [
            f"{kind.name} {item['metadata']['namespace']}/{item['metadata']['name']}"
            for kind in (JOB, POD, SECRET, SERVICE)
            for item in self.objects(kind.name, **labels)
        ]
        return names + [f"process {pid}" for pid in self.processes()]

    def wait_gone(self, seconds: float = 30, **labels: str) -> None:
        """Return once nothing with these labels is left; ``AssertionError`` names what is."""
        self.until(lambda: not self.leftovers(**labels), lambda: self.leftovers(**labels), seconds)

    def until(
        self,
        condition: Callable[[], T],
        problem: Callable[[], object] = lambda: "not yet",
        seconds: float = 30,
    ) -> T:
        """Wait for a condition and return its value, or fail with what ``problem`` returns."""
        deadline = time.monotonic() + seconds
        while not (value := condition()):
            assert time.monotonic() < deadline, f"after {seconds} s: {problem()}"
            self._store.wait(0.05)
        return value

    def _running(self, namespace: str, name: str) -> Worker:
        def running() -> Worker | None:
            worker = self._kubelet.newest(namespace, name)
            return worker if worker and worker.living() else None

        found = self.until(running, lambda: f"pod {namespace}/{name} does not run")
        assert found
        return found

    def _write_kubeconfig(self, user: str, token: str, namespace: str) -> str:
        path = self._folder / f"{user}.kubeconfig"
        context = {"cluster": "fake", "user": user, "namespace": namespace}
        # Real clients send no token over plain HTTP.
        server = {"server": self.url, "certificate-authority-data": self._authority}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "fake",
            "clusters": [{"name": "fake", "cluster": server}],
            "users": [{"name": user, "user": {"token": token}}],
            "contexts": [{"name": "fake", "context": context}],
        }
        # In one step, for several pods of an account may start at once.
        draft = path.with_suffix(f".{threading.get_ident()}")
        draft.write_text(json.dumps(config))
        draft.replace(path)
        return str(path)


def _namespaces(*names: str) -> list[Manifest]:
    return [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": n}} for n in names]

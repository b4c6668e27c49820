"""The runtime of pods: a server's Job, and a Job per hospital in the hospital's own namespace."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fl_assets.cluster.api import ClusterApi, Manifest
from fl_assets.cluster.client import connect
from fl_assets.cluster.group import Group, JobFailedError
from fl_assets.cluster.manifests import (
    POD_IP,
    PORT,
    SECRETS_FOLDER,
    PodJob,
    group_name,
    secret_manifest,
    service_manifest,
)
from fl_assets.cluster.site_jobs import SITE_ACCOUNT
from fl_assets.config import StrictModel
from fl_assets.federation.deployment.pki import Authority, new_node_key
from fl_assets.federation.deployment.pod_server import RUN_BEGINS, ServerPodArguments
from fl_assets.federation.deployment.pod_site import SitePodArguments
from fl_assets.federation.job import FederationError, FederationJob, FederationResult, load_result
from fl_assets.federation.runtimes.base import KubernetesConfig
from fl_assets.storage import open_store

SERVER_ACCOUNT = "server"
"""Service account of a training's server, in the coordinator's namespace."""

_DEPLOYMENT = "fl_assets.federation.deployment"


class TrainingPodError(FederationError):
    """A pod of a training that did not start or did not end well, in words."""


class KubernetesRuntime:
    """Runs a job over a SuperLink in one pod and a SuperNode in a pod of each hospital.

    It computes bit for bit what :class:`.inprocess.InProcessRuntime` does. Keys and certificate are
    made for the run and go with it. A hospital's pod that dies is started again, and is a dropout
    meanwhile.

    Args:
        config: where, and by which images.
    """

    def __init__(self, config: KubernetesConfig) -> None:
        self._config = config
        self._cluster = config.cluster

    def run(self, job: FederationJob) -> FederationResult:
        """Train; see :meth:`fl_assets.federation.runtimes.base.Runtime.run`.

        Raises:
            TrainingPodError: the server failed, a hospital's pod did not start, or it failed before
                the training began.
            ClusterApiError: the API server refused.
            NoClusterError: no cluster is configured here.
        """
        group = group_name(job.run)
        namespaces = [self._cluster.namespace, *map(self._cluster.namespace_of, sorted(job.sites))]
        with Group(ClusterApi(connect()), self._cluster, group, namespaces) as jobs:
            server = self._start(jobs, job)
            follower = _Follower(self._config)
            try:
                jobs.wait(server, follower.on_failure, follower.on_line, follower.on_loss)
            except JobFailedError as error:
                raise TrainingPodError("\n".join((str(error), *follower.failures))) from error
        return load_result(open_store(job.output), job.run)

    def _start(self, jobs: Group, job: FederationJob) -> PodJob:
        """Start all Jobs and give each pod its files; return the server's."""
        run = self._config.run or job.run
        server = PodJob(
            group=jobs.name,
            component="server",
            namespace=self._cluster.namespace,
            account=SERVER_ACCOUNT,
            image=self._config.server_image,
            command=_command(
                "pod_server",
                ServerPodArguments(
                    secrets=Path(SECRETS_FOLDER),
                    address=POD_IP,
                    port=PORT,
                    start_seconds=self._cluster.start_seconds,
                ),
            ),
            resources=self._cluster.server,
            run=run,
            secret=True,
        )
        made = jobs.start(server, self._pod_of_run(jobs.api))
        # Its address is in the certificate, and so is needed before any pod's files.
        service = jobs.api.create(service_manifest(server, made))
        address = str(service["spec"]["clusterIP"])
        sites = [self._site(jobs.name, name, address, run) for name in sorted(job.sites)]
        started = [(site, jobs.start(site)) for site in sites]
        with tempfile.TemporaryDirectory(prefix="fl-assets-keys-") as folder:
            for manifest in _secrets(Path(folder), address, job, (server, made), started):
                jobs.api.create(manifest)
        return server

    def _site(self, group: str, hospital: str, address: str, run: str) -> PodJob:
        arguments = SitePodArguments(
            hospital=hospital,
            superlink=f"{address}:{PORT}",
            secrets=Path(SECRETS_FOLDER),
            start_seconds=self._cluster.start_seconds,
        )
        return PodJob(
            group=group,
            component="site",
            namespace=self._cluster.namespace_of(hospital),
            account=SITE_ACCOUNT,
            image=self._config.site_image,
            command=_command("pod_site", arguments),
            resources=self._cluster.site,
            run=run,
            hospital=hospital,
            secret=True,
            retries=self._cluster.retries,
        )

    def _pod_of_run(self, api: ClusterApi) -> Manifest | None:
        """Return the pod of the Dagster run that trains, with which the server's Job is to go."""
        if not self._config.run:
            return None
        # K8sRunLauncher's label; a run of a laptop has no pod.
        selector = f"dagster/run-id={self._config.run}"
        pods = api.pods(self._cluster.namespace, selector)
        # Items of a list do not say what they are.
        return {**pods[-1], "apiVersion": "v1", "kind": "Pod"} if pods else None


class _Follower:
    """Tells what happens in a training, and keeps what its hospitals failed of."""

    def __init__(self, config: KubernetesConfig) -> None:
        self._say = config.say
        self._begun = False
        self.failures: list[str] = []

    def on_line(self, line: str) -> None:
        self._begun = self._begun or line == RUN_BEGINS
        self._say(f"server: {line}")

    def on_failure(self, error: JobFailedError) -> None:
        if not self._begun:
            raise error
        self.failures.append(str(error))
        self._say(f"out of the training: {error}")

    def on_loss(self, loss: JobFailedError) -> None:
        self._say(str(loss))


def _command(module: str, arguments: StrictModel) -> tuple[str, ...]:
    return ("python", "-m", f"{_DEPLOYMENT}.{module}", arguments.model_dump_json())


def _secrets(
    folder: Path,
    address: str,
    job: FederationJob,
    server: tuple[PodJob, Manifest],
    sites: Sequence[tuple[PodJob, Manifest]],
) -> Iterator[Manifest]:
    """Make the run's keys in a folder, and yield the Secret of each pod, owned by its Job."""
    files = Authority().issue(folder, address)
    ca = files.ca.read_bytes()
    nodes = {}
    for site, made in sites:
        key = folder / f"{site.hospital}.key"
        public = new_node_key(key).public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        nodes[site.hospital] = public.decode()
        yield secret_manifest(site, made, {"ca.pem": ca, "node.key": key.read_bytes()})
    given = {
        "ca.pem": ca,
        "server.pem": files.certificate.read_bytes(),
        "server.key": files.key.read_bytes(),
        "job.json": job.model_dump_json().encode(),
        "nodes.json": json.dumps(nodes).encode(),
    }
    yield secret_manifest(*server, given)

"""One pod of the cluster that is run to its end, as a given account."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy.errors import DeploymentError
from fl_assets.cluster.api import ClusterApi, Manifest
from fl_assets.cluster.failures import is_running, job_state, trouble, why_failed
from fl_assets.cluster.manifests import GROUP_LABEL, PodJob, job_manifest
from fl_assets.consortium import Cluster

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

POLL_SECONDS = 0.5
"""Between two looks at a pod."""


@dataclass(frozen=True)
class Ended:
    """A pod that has ended.

    Attributes:
        log: of both its streams.
        well: whether its exit code was 0.
    """

    log: str
    well: bool


class PodFailedError(DeploymentError):
    """A pod did not start, or ended without a word; the text says why."""

    def __init__(self, pod: PodJob, why: str) -> None:
        super().__init__(f"a pod of account {pod.account} in namespace {pod.namespace}: {why}")


def release_images(
    client: ApiClient, api: ClusterApi, training: str, mlops: str
) -> tuple[str, str]:
    """Return the images of the running release: of a hospital's pods, and of Dagster's.

    Raises:
        DeploymentError: it is not installed.
        ClusterApiError: the API server refused.
    """
    from fl_assets.cluster.inspection import Inspection

    settings = Inspection(client).config_map(training, "fla-dagster") or {}
    daemons = api.pods(mlops, "component=dagster-daemon")
    if "FLA_SITE_IMAGE" not in settings or not daemons:
        raise DeploymentError(
            f"ConfigMap fla-dagster in {training} and Dagster's daemon in {mlops} name the images, "
            "and one of them is missing: install the charts with `make deploy`"
        )
    return settings["FLA_SITE_IMAGE"], daemons[-1]["spec"]["containers"][0]["image"]


def run_pod(api: ClusterApi, cluster: Cluster, pod: PodJob, *, as_run: bool = False) -> Ended:
    """Run a pod to its end, well or not; nothing of it is left.

    Args:
        api: of the cluster, with the rights of who deploys.
        cluster: node pools and deadlines.
        pod: what to run, in a group of its own.
        as_run: whether it is to have what a run of Dagster has: a token of the Kubernetes API,
            and its settings and network rules.

    Raises:
        PodFailedError: it did not start, or has left no log.
        ClusterApiError: the API server refused.
    """
    manifest = job_manifest(cluster, pod)
    if as_run:
        template = manifest["spec"]["template"]
        template["metadata"]["labels"] = {**template["metadata"]["labels"], "fl/part": "run"}
        template["spec"]["automountServiceAccountToken"] = True
        environment = template["spec"]["containers"][0]["envFrom"]
        environment.append({"configMapRef": {"name": "fla-dagster"}})
    api.create(manifest)
    try:
        return _log_at_end(api, cluster, pod)
    finally:
        api.remove_jobs(pod.namespace, f"{GROUP_LABEL}={pod.group}")


def _log_at_end(api: ClusterApi, cluster: Cluster, pod: PodJob) -> Ended:
    selector = f"{GROUP_LABEL}={pod.group}"
    latest = time.monotonic() + cluster.start_seconds
    while jobs := api.jobs(pod.namespace, selector):
        pods = api.pods(pod.namespace, selector)
        state = job_state(jobs[0])
        if state != "unfinished":
            log = api.log(pod.namespace, pods[-1]["metadata"]["name"]) if pods else ""
            if not log:
                raise PodFailedError(pod, why_failed(jobs[0], pods))
            return Ended(log, state == "complete")
        if not any(map(is_running, pods)):
            _check_start(api, pod, pods, late=time.monotonic() > latest)
        time.sleep(POLL_SECONDS)
    raise PodFailedError(pod, "somebody removed it; run this again")


def _check_start(api: ClusterApi, pod: PodJob, pods: list[Manifest], *, late: bool) -> None:
    names = [pod.name, *(each["metadata"]["name"] for each in pods)]
    events = [event for name in names for event in api.events(pod.namespace, name)]
    found = trouble(pods, events)
    if found is not None and (found.final or late):
        raise PodFailedError(pod, found.words)
    if late:
        raise PodFailedError(pod, "it did not start in time, and nothing says why")

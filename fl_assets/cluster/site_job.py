"""One task of a hospital, as a Kubernetes Job in the hospital's own namespace."""

from __future__ import annotations

from collections.abc import Sequence

from fl_assets.cluster.api import ClusterApi
from fl_assets.cluster.client import connect
from fl_assets.cluster.group import Group, JobFailedError
from fl_assets.cluster.manifests import PodJob, group_name
from fl_assets.consortium import Cluster
from fl_assets.errors import FlAssetsError

SITE_ACCOUNT = "site"
"""Service account of every hospital's pods, in its own namespace."""


class SiteJobError(FlAssetsError):
    """A hospital's task that did not end well; the text says why and what to do."""


def run_site_job(
    cluster: Cluster, image: str, hospital: str, arguments: Sequence[str], run: str
) -> None:
    """Run ``python -m fl_assets.site ARGUMENTS`` as a hospital's own pod, and wait for its end.

    The pod has the hospital's account, its ConfigMaps and no right of the caller's. Nothing of it
    is left when this returns or raises. A pod that fails is not started again here, for the error
    may be in the data; who asks may ask again.

    Args:
        cluster: namespaces, resources and deadline.
        image: of a hospital's pods.
        hospital: whose namespace and account the pod has.
        arguments: of the module; no secret and no patient's value, for everybody who may see the
            Job can read them.
        run: name of the Dagster run or training that asks, a label of what is made.

    Raises:
        SiteJobError: the task did not start or did not end well, in words.
        ClusterApiError: the API server refused.
        NoClusterError: no cluster is configured here.
    """
    group = group_name("-".join((hospital, run, *arguments)))
    namespace = cluster.namespace_of(hospital)
    task = PodJob(
        group=group,
        component="task",
        namespace=namespace,
        account=SITE_ACCOUNT,
        image=image,
        command=("python", "-m", "fl_assets.site", *arguments),
        resources=cluster.site,
        run=run,
        hospital=hospital,
    )
    with Group(ClusterApi(connect()), cluster, group, [namespace]) as jobs:
        jobs.start(task)
        try:
            jobs.wait(task)
        except JobFailedError as error:
            raise SiteJobError(f"{' '.join(arguments)}: {error}") from error

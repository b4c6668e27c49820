"""Tasks of several hospitals at the same time, each a Kubernetes Job in its own namespace."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

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


def run_site_jobs(
    cluster: Cluster,
    image: str,
    arguments: Mapping[str, Sequence[str]],
    run: str,
    ended: Callable[[str], None] = lambda _hospital: None,
) -> None:
    """Run ``python -m fl_assets.site ARGUMENTS`` as each hospital's own pod, and wait for all.

    A pod has its hospital's account, its ConfigMaps and no right of the caller's. Nothing of it is
    left when this returns or raises. The first pod that fails ends the others; it is not started
    again here, for the error may be in the data, and who asks may ask again.

    Args:
        cluster: namespaces, resources and deadline.
        image: of a hospital's pods.
        arguments: of the module, by hospital; no secret and no patient's value, for everybody who
            may see the Job can read them.
        run: name of the Dagster run or training that asks, a label of what is made.
        ended: told of each hospital whose task has ended well, in the order of ``arguments``.

    Raises:
        SiteJobError: a task did not start or did not end well, in words.
        ClusterApiError: the API server refused.
        NoClusterError: no cluster is configured here.
    """
    group = group_name("-".join((run, *(word for words in arguments.values() for word in words))))
    tasks = [
        PodJob(
            group=group,
            component="task",
            namespace=cluster.namespace_of(hospital),
            account=SITE_ACCOUNT,
            image=image,
            command=("python", "-m", "fl_assets.site", *words),
            resources=cluster.site,
            run=run,
            hospital=hospital,
        )
        for hospital, words in arguments.items()
    ]
    api, namespaces = ClusterApi(connect()), [task.namespace for task in tasks]
    with Group(api, cluster, group, namespaces) as jobs:
        try:
            for task in tasks:
                jobs.start(task)
            for task in tasks:
                jobs.wait(task)
                ended(str(task.hospital))
        except JobFailedError as error:
            raise SiteJobError(str(error)) from error

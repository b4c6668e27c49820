"""Tasks of several hospitals at the same time, each a Kubernetes Job in its own namespace."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from fl_assets.cluster.api import ClusterApi
from fl_assets.cluster.client import connect
from fl_assets.cluster.group import Group, JobFailedError
from fl_assets.cluster.manifests import PodJob, group_name
from fl_assets.cluster.site_job import SITE_ACCOUNT, SiteJobError
from fl_assets.consortium import Cluster


def run_site_jobs(
    cluster: Cluster,
    image: str,
    arguments: Mapping[str, Sequence[str]],
    run: str,
    ended: Callable[[str], None] = lambda _hospital: None,
) -> None:
    """Run ``python -m fl_assets.site ARGUMENTS`` as each hospital's own pod, and wait for all.

    As :func:`fl_assets.cluster.site_job.run_site_job`, for several hospitals: the first pod that
    fails ends the others.

    Args:
        cluster: namespaces, resources and deadline.
        image: of a hospital's pods.
        arguments: of the module, by hospital.
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

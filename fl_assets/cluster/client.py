"""The way to the cluster's API server."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fl_assets.errors import FlAssetsError

if TYPE_CHECKING:
    from kubernetes.client import ApiClient, Configuration


class NoClusterError(FlAssetsError):
    """This process neither runs in a cluster nor knows of one."""


def connect() -> ApiClient:
    """Return a client of the cluster that this process runs in, or else of KUBECONFIG's.

    Raises:
        NoClusterError: there is neither, or the kubeconfig cannot be used.
    """
    from kubernetes import client, config

    configuration = client.Configuration()
    # Who calls has a patience of its own; urllib3's would multiply it.
    configuration.retries = False
    try:
        config.load_incluster_config(client_configuration=configuration)
    except config.ConfigException:
        _read_kubeconfig(configuration)
    return client.ApiClient(configuration)


def _read_kubeconfig(configuration: Configuration) -> None:
    from kubernetes import config

    path = os.environ.get("KUBECONFIG")
    if not path:
        raise NoClusterError(
            "this process does not run in a Kubernetes cluster, and KUBECONFIG names none: set "
            "it to a kubeconfig file, or choose another runtime with FLA_RUNTIME"
        )
    try:
        config.load_kube_config(path, client_configuration=configuration)
    except (config.ConfigException, OSError) as error:
        raise NoClusterError(
            f"the kubeconfig {path} that KUBECONFIG names cannot be used: {error}; correct it"
        ) from error

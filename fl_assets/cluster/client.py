"""The way to the cluster's API server."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fl_assets.errors import FlAssetsError

if TYPE_CHECKING:
    from kubernetes.client import ApiClient


class NoClusterError(FlAssetsError):
    """This process neither runs in a cluster nor knows of one."""


def connect() -> ApiClient:
    """Return a client of the cluster that this process runs in, or else of KUBECONFIG's.

    Raises:
        NoClusterError: there is neither, or the kubeconfig cannot be used.
    """
    from kubernetes import client, config

    inside = client.Configuration()
    try:
        config.load_incluster_config(client_configuration=inside)
    except config.ConfigException:
        return _by_kubeconfig()
    return client.ApiClient(inside)


def _by_kubeconfig() -> ApiClient:
    from kubernetes import config

    path = os.environ.get("KUBECONFIG")
    if not path:
        raise NoClusterError(
            "this process does not run in a Kubernetes cluster, and KUBECONFIG names none: set "
            "it to a kubeconfig file, or choose another runtime with FLA_RUNTIME"
        )
    try:
        # Not load_kube_config, which changes the configuration of the whole process.
        return config.new_client_from_config(path)
    except (config.ConfigException, OSError) as error:
        raise NoClusterError(
            f"the kubeconfig {path} that KUBECONFIG names cannot be used: {error}; correct it"
        ) from error

"""A fake Kubernetes cluster, and its administrator's clients."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kubernetes import client, config

from fl_assets_tests.cluster.fakekube import FakeKube


@pytest.fixture
def kube(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeKube]:
    """An empty cluster; paths of the tests' temporary folders mean the same in its pods."""
    with FakeKube(host_paths=[tmp_path_factory.getbasetemp()]) as cluster:
        yield cluster


@pytest.fixture
def connection(kube: FakeKube) -> Iterator[client.ApiClient]:
    with config.new_client_from_config(kube.kubeconfig) as made:
        yield made


@pytest.fixture
def core(connection: client.ApiClient) -> client.CoreV1Api:
    return client.CoreV1Api(connection)


@pytest.fixture
def batch(connection: client.ApiClient) -> client.BatchV1Api:
    return client.BatchV1Api(connection)

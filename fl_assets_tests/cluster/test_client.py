from pathlib import Path

import pytest

from fl_assets.cluster.client import NoClusterError, connect

KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: a
clusters: [{name: a, cluster: {server: "http://127.0.0.1:9"}}]
users: [{name: a, user: {token: t}}]
contexts: [{name: a, context: {cluster: a, user: a}}]
"""


@pytest.fixture(autouse=True)
def _outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.delenv("KUBECONFIG", raising=False)


def test_without_a_cluster_both_ways_are_named() -> None:
    with pytest.raises(NoClusterError, match=r"KUBECONFIG names none: set it.*FLA_RUNTIME"):
        connect()


def test_a_kubeconfig_is_used_without_changing_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kubernetes.client import Configuration

    before = Configuration.get_default_copy().host
    path = tmp_path / "config"
    path.write_text(KUBECONFIG)
    monkeypatch.setenv("KUBECONFIG", str(path))
    configuration = connect().configuration
    assert configuration.host == "http://127.0.0.1:9"
    # Else each attempt of ours would be four of urllib3's.
    assert configuration.retries is False
    assert Configuration.get_default_copy().host == before


@pytest.mark.parametrize("text", [None, "{}"])
def test_a_kubeconfig_that_cannot_be_used_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None
) -> None:
    path = tmp_path / "config"
    if text is not None:
        path.write_text(text)
    monkeypatch.setenv("KUBECONFIG", str(path))
    with pytest.raises(NoClusterError, match=str(path)):
        connect()

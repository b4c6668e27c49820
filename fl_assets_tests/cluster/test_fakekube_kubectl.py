"""The fake cluster, asked by the real kubectl."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from fl_assets_tests.cluster.fakekube import FakeKube
from fl_assets_tests.cluster.objects import IMAGE, job, named, role_for

Kubectl = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed")


@pytest.fixture
def kubectl(kube: FakeKube, tmp_path: Path) -> Kubectl:
    """Run kubectl, as the administrator if no kubeconfig is named."""
    kube.images[IMAGE] = {}

    def run(
        *words: str, text: str = "", kubeconfig: str = kube.kubeconfig
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["kubectl", "--kubeconfig", kubeconfig, *words],
            input=text,
            capture_output=True,
            text=True,
            timeout=30,
            # It keeps what it discovers in the home folder.
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        )

    return run


def test_apply_wait_logs_get_and_delete(kube: FakeKube, kubectl: Kubectl) -> None:
    manifest = json.dumps(job("j", "echo", "hello"))
    made = kubectl("apply", "-f", "-", text=manifest)
    assert made.stdout == "job.batch/j created\n", made.stderr
    assert "condition met" in kubectl("wait", "--for=condition=complete", "job/j").stdout
    assert kubectl("apply", "-f", "-", text=manifest).stdout == "job.batch/j unchanged\n"
    assert kubectl("logs", "--follow", "job/j").stdout == "hello\n"
    listed = kubectl("get", "jobs,pods", "-A", "-o", "name").stdout.split()
    assert listed[0] == "job.batch/j"
    assert listed[1].startswith("pod/j-")
    assert kubectl("delete", "job", "j").stdout == 'job.batch "j" deleted\n'
    kube.wait_gone()


def test_apply_changes_what_is_there(kube: FakeKube, kubectl: Kubectl) -> None:
    for data, said in ({"a": "1", "b": "2"}, "created"), ({"b": "3"}, "configured"):
        text = json.dumps(named("ConfigMap", "m", "default", data=data))
        assert kubectl("apply", "-f", "-", text=text).stdout == f"configmap/m {said}\n"
    assert kube.objects("ConfigMap")[0]["data"] == {"b": "3"}


def test_an_invalid_object_is_refused(kubectl: Kubectl) -> None:
    text = json.dumps(job("j", "true", spec={"backofLimit": 1}))
    refused = kubectl("apply", "-f", "-", text=text)
    assert refused.returncode == 1
    assert "'backofLimit' was unexpected" in refused.stderr


def test_what_an_account_may(kube: FakeKube, kubectl: Kubectl) -> None:
    rule = {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]}
    kube.apply(named("ServiceAccount", "a", "default"), *role_for("default", "a", [rule]))
    mine = kube.kubeconfig_for("default", "a")
    allowed = kubectl("auth", "can-i", "get", "pods", "--subresource=log", kubeconfig=mine)
    assert allowed.stdout == "yes\n"
    assert kubectl("auth", "can-i", "create", "jobs", kubeconfig=mine).stdout == "no\n"
    refused = kubectl("get", "pods", kubeconfig=mine)
    assert 'pods is forbidden: User "system:serviceaccount:default:a" cannot list' in refused.stderr

"""A deployment is verified by pods of its own: a cluster of the harness, and an S3 that denies.

Every hospital's pod and the coordinator's has its own web identity, and the requests to SeaweedFS
are real ones.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.verify_remote import Verification
from fl_assets.settings import Settings
from fl_assets_tests.cluster.fakekube import FakeKube
from fl_assets_tests.cluster.installed import (
    IMAGES,
    RUN_IMAGE,
    SERVER_IMAGE,
    SITE_IMAGE,
    installed,
)
from fl_assets_tests.conftest import REPOSITORY
from fl_assets_tests.federation.deployment.processes import HERE
from fl_assets_tests.storage.hospitals import NAMES, WebHospitals

pytestmark = [pytest.mark.infra, pytest.mark.services]

TRAINING = "federated-learning"


@dataclasses.dataclass
class Deployment:
    """A consortium that is installed in a cluster."""

    kube: FakeKube
    settings: Settings
    web: WebHospitals

    def be(self, namespace: str, account: str, who: str) -> None:
        """Let an account's pods have the web identity of a role."""
        server, consortium = self.web.server, self.web.consortium
        identity = server.environment(consortium.identities[who])
        self.kube.identities[(namespace, account)] = identity

    def verify(self) -> subprocess.CompletedProcess[str]:
        file = str(self.settings.consortium_file)
        return subprocess.run(
            [sys.executable, "-m", "deploy.verify_remote", "--consortium", file],
            cwd=REPOSITORY,
            env=os.environ | {"KUBECONFIG": self.kube.kubeconfig},
            capture_output=True,
            text=True,
            check=False,
            timeout=280,
        )


@pytest.fixture
def deployment(
    web_hospitals: WebHospitals, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    settings = dataclasses.replace(web_hospitals.consortium.settings, runtime="kubernetes")
    settings = dataclasses.replace(settings, tracking_uri=f"sqlite:///{settings.home}/none.db")
    images = IMAGES | {RUN_IMAGE: HERE | {"FLA_RECIPES": str(REPOSITORY / "recipes")}}
    paths = [tmp_path_factory.getbasetemp(), REPOSITORY]
    with FakeKube(images=images, host_paths=paths) as kube:
        kube.apply(*installed(settings), dagster_settings(), daemon())
        found = Deployment(kube, settings, web_hospitals)
        found.be(TRAINING, "coordinator", "coordinator")
        for name in NAMES:
            found.be(f"fl-{name}", "site", name)
        yield found


def dagster_settings() -> dict[str, Any]:
    images = {"FLA_SITE_IMAGE": SITE_IMAGE, "FLA_SERVER_IMAGE": SERVER_IMAGE}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "fla-dagster", "namespace": TRAINING},
        "data": {"FLA_RUNTIME": "kubernetes", **images},
    }


def daemon() -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "dagster-daemon-1",
            "namespace": "mlops",
            "labels": {"component": "dagster-daemon"},
        },
        "spec": {
            "restartPolicy": "Never",
            "serviceAccountName": "dagster",
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "dagster",
                    "image": RUN_IMAGE,
                    "command": ["python", "-c", "import signal; signal.pause()"],
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
        },
    }


@pytest.mark.parametrize(
    ("check", "code"),
    [("coordinator: rows of north are closed to the coordinator", 2), ("north: packages", 0)],
)
def test_isolation_that_was_not_checked_is_not_right(check: str, code: int) -> None:
    verification = Verification()
    verification.report("pods in mlops", "passed", "all 1 ready or done")
    verification.report(check, "not checked", "there are no rows yet")
    assert verification.exit_code == code


def test_a_deployment_that_is_right(deployment: Deployment) -> None:
    done = deployment.verify()

    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "          passed  pods in mlops: all 1 ready or done" in lines
    for name in NAMES:
        closed = f"coordinator: rows of {name} are closed to the coordinator"
        assert any(f"  passed  {closed}: a request" in f"  {line.strip()}" for line in lines)
        rights = f"passed  coordinator: coordinator's rights in fl-{name}: all"
        assert any(line.strip().startswith(rights) for line in lines)
        for other in set(NAMES) - {name}:
            denied = f"passed  {name}: store of {other} is closed to {name}: a request"
            assert any(line.strip().startswith(denied) for line in lines)
    assert deployment.kube.objects("Job") == []


def test_a_deployment_that_is_wrong(deployment: Deployment) -> None:
    """hospital-b's pods have hospital-a's rights, and hospital-c has no service account."""
    deployment.be("fl-hospital-b", "site", "hospital-a")
    delete = ["kubectl", "-n", "fl-hospital-c", "delete", "serviceaccount", "site"]
    kubeconfig = os.environ | {"KUBECONFIG": deployment.kube.kubeconfig}
    subprocess.run(delete, env=kubeconfig, check=True, capture_output=True)

    done = deployment.verify()

    lines = [line.strip() for line in done.stdout.splitlines()]
    assert done.returncode == 1, done.stdout + done.stderr
    opened = "problem  hospital-b: store of hospital-a is closed to hospital-b: hospital-b may read"
    assert any(line.startswith(opened) for line in lines)
    assert any(line.startswith("problem  hospital-b: store of hospital-b:") for line in lines)
    (missing,) = [line for line in lines if line.startswith("could not be run")]
    assert "account site in namespace fl-hospital-c" in missing
    assert "service account is missing" in missing


def test_without_a_deployment(deployment: Deployment, tmp_path: Path) -> None:
    with FakeKube() as empty:
        done = dataclasses.replace(deployment, kube=empty).verify()

    assert done.returncode == 2
    assert "make deploy" in done.stderr


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        (["doctor", "--hospital", "hospital-a"], 0, "store of hospital-a"),
        (["delete-data", "nowhere", "--force", "--yes"], 1, "no hospital is named 'nowhere'"),
    ],
)
def test_a_command_at_a_hospital(
    deployment: Deployment, command: list[str], code: int, said: str
) -> None:
    file = str(deployment.settings.consortium_file)
    called = [sys.executable, "-m", "deploy.at_hospital", "hospital-a", "--consortium", file]
    done = subprocess.run(
        [*called, "--", *command],
        cwd=REPOSITORY,
        env=os.environ | {"KUBECONFIG": deployment.kube.kubeconfig},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )

    assert done.returncode == code, done.stdout + done.stderr
    assert said in done.stdout
    assert deployment.kube.objects("Job") == []

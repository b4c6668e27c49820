import base64
from dataclasses import replace
from typing import Any

import kubernetes_validate
import pytest

from fl_assets.cluster.manifests import (
    PodJob,
    group_name,
    job_manifest,
    secret_manifest,
    service_manifest,
)
from fl_assets.consortium import Cluster, PodResources, Toleration

CLUSTER = Cluster(
    node_selector={"fl/pool": "training"},
    tolerations=(Toleration(key="fl/training", value="true"), Toleration(key="spot")),
    deadline_seconds=900,
    ttl_seconds=60,
)
SITE = PodJob(
    group=group_name("run"),
    component="site",
    namespace="fl-hospital-a",
    account="site",
    image="registry/site:1",
    command=("python", "-m", "x"),
    resources=PodResources(cpu="500m", memory="1Gi"),
    run="5c1e",
    hospital="hospital-a",
    secret=True,
    retries=3,
)
SERVER = replace(SITE, component="server", namespace="fl", hospital=None, retries=0)
OWNER = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j", "uid": "u-1"}}


def pod_spec(job: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = job["spec"]["template"]["spec"]
    return spec


@pytest.mark.parametrize(
    "manifest",
    [
        job_manifest(CLUSTER, SITE),
        job_manifest(Cluster(), replace(SITE, secret=False)),
        job_manifest(CLUSTER, SERVER, OWNER),
        secret_manifest(SITE, OWNER, {"ca.pem": b"\x00\xff"}),
        service_manifest(SERVER, OWNER),
    ],
    ids=["site", "plain", "server", "secret", "service"],
)
def test_every_manifest_is_what_kubernetes_knows(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, "1.31", strict=True)


def test_a_pod_may_do_nothing_but_its_work() -> None:
    spec = pod_spec(job_manifest(CLUSTER, SITE))
    (container,) = spec["containers"]
    assert spec["serviceAccountName"] == "site"
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == 10001
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    writable = [m["mountPath"] for m in container["volumeMounts"] if not m.get("readOnly")]
    assert writable == ["/tmp"]


def test_a_job_ends_in_time_and_goes_with_its_owner() -> None:
    job = job_manifest(CLUSTER, SERVER, OWNER)
    assert job["spec"]["activeDeadlineSeconds"] == 900
    assert job["spec"]["ttlSecondsAfterFinished"] == 60
    assert job["spec"]["backoffLimit"] == 0
    (reference,) = job["metadata"]["ownerReferences"]
    assert reference == {"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "u-1"}
    assert job_manifest(CLUSTER, SITE)["spec"]["backoffLimit"] == 3


def test_a_pod_goes_where_the_consortium_says_and_takes_what_it_says() -> None:
    spec = pod_spec(job_manifest(CLUSTER, SITE))
    assert spec["nodeSelector"] == {"fl/pool": "training"}
    assert spec["tolerations"] == [
        {"key": "fl/training", "effect": "NoSchedule", "operator": "Equal", "value": "true"},
        {"key": "spot", "effect": "NoSchedule", "operator": "Exists"},
    ]
    given = {"cpu": "500m", "memory": "1Gi"}
    assert spec["containers"][0]["resources"] == {"requests": given, "limits": given}


def test_job_and_pod_are_found_by_their_labels() -> None:
    job = job_manifest(CLUSTER, replace(SITE, run="a run/with blanks!"))
    expected = {
        "app.kubernetes.io/name": "fl-assets",
        "app.kubernetes.io/component": "site",
        "fl/group": SITE.group,
        "fl/run": "a-run-with-blanks",
        "fl/hospital": "hospital-a",
    }
    assert job["metadata"]["labels"] == expected
    assert job["spec"]["template"]["metadata"]["labels"] == expected


def test_a_secret_is_mounted_into_its_own_pod_alone() -> None:
    secret = secret_manifest(SITE, OWNER, {"node.key": b"key\n"})
    assert secret["metadata"]["namespace"] == "fl-hospital-a"
    assert base64.b64decode(secret["data"]["node.key"]) == b"key\n"
    volumes = {v["name"]: v for v in pod_spec(job_manifest(CLUSTER, SITE))["volumes"]}
    assert volumes["run"]["secret"]["secretName"] == secret["metadata"]["name"]
    without = pod_spec(job_manifest(CLUSTER, replace(SITE, secret=False)))
    assert "run" not in {v["name"] for v in without["volumes"]}


@pytest.mark.parametrize(
    "run", ["small", "A_Run With (signs) " * 9, "-", "fedavg-lr-0123456789abcdef-" * 3]
)
def test_names_are_legal_and_leave_room_for_suffixes(run: str) -> None:
    name = group_name(run)
    assert name == group_name(run) != group_name(f"{run}x")
    assert name.replace("-", "").isalnum()
    assert name == name.lower()
    assert not name.endswith("-")
    # Of 63 letters; a pod has its Job's name and six more.
    assert len(f"{name}-server-abcde") <= 63

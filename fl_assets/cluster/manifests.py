"""Manifests of what a training or a task of a hospital is made of."""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Literal

from fl_assets.cluster.api import Manifest
from fl_assets.cluster.termination import FINAL
from fl_assets.consortium import Cluster, PodResources

SECRETS_FOLDER = "/etc/fla/run"
"""Where a pod finds the files of its run's Secret."""

CONSORTIUM_FOLDER = "/etc/fla/consortium"
"""Where a pod finds consortium.yaml and the cohort files beside it."""

PORT = 9092
"""Of a training's SuperLink."""

POD_IP = "$(POD_IP)"
"""Stands for the pod's own IP address in a command; Kubernetes puts it there."""

GROUP_LABEL = "fl/group"

_USER = 10001  # of the images
# An autoscaler that wants the node waits for the end of a training.
_STAYS = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}
_GRACE_SECONDS = 10  # below the 30 s that a cancelled Dagster run has for all its cleaning up
_LABEL_LENGTH = 63


@dataclass(frozen=True)
class PodJob:
    """What a Job of one pod is to do, as whom and where.

    Attributes:
        group: that it is removed with; a name of :func:`group_name`.
        component: of the project.
        namespace, account: of the pod.
        image: of its container.
        command: of its container.
        resources: its request and limit.
        run: of Dagster, or of the training, that it is for.
        hospital: whose pod it is; the coordinator's if None.
        secret: whether it has a Secret with files of its own, which is named as the Job is.
        retries: of a pod that has failed.
        attempt: makes its name nobody else's, so that nothing of an attempt before, which goes in
            the background, can be in its way.
    """

    group: str
    component: Literal["server", "site", "task"]
    namespace: str
    account: str
    image: str
    command: Sequence[str]
    resources: PodResources
    run: str
    hospital: str | None = None
    secret: bool = False
    retries: int = 0
    attempt: str = field(default_factory=lambda: secrets.token_hex(3))

    @property
    def name(self) -> str:
        """Name of the Job, and of its Secret and Service."""
        return f"{self.group}-{self.component}-{self.attempt}"

    @property
    def labels(self) -> dict[str, str]:
        """Labels of everything that belongs to it."""
        return {
            "app.kubernetes.io/name": "fl-assets",
            "app.kubernetes.io/component": self.component,
            GROUP_LABEL: self.group,
            "fl/run": _label(self.run),
            **({} if self.hospital is None else {"fl/hospital": self.hospital}),
        }


def group_name(run: str) -> str:
    """Return the name of a run's group of Jobs: the same for the same run, short and legal.

    It leaves room for the suffixes of Jobs and pods.
    """
    plain = re.sub(r"[^a-z0-9]+", "-", run.lower()).strip("-")[:31].strip("-")
    return f"fl-{plain}-{sha256(run.encode()).hexdigest()[:8]}"


def job_manifest(cluster: Cluster, pod: PodJob, owner: Manifest | None = None) -> Manifest:
    """Return the Job.

    Args:
        cluster: node pools, deadline and how long a finished Job stays.
        pod: what it is to do.
        owner: object of the same namespace with which it goes.
    """
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": _metadata(pod, owner),
        "spec": {
            "backoffLimit": pod.retries,
            "activeDeadlineSeconds": cluster.deadline_seconds,
            "ttlSecondsAfterFinished": cluster.ttl_seconds,
            "podFailurePolicy": {"rules": [_final(pod)]},
            "template": {
                "metadata": {"labels": pod.labels, "annotations": _STAYS},
                "spec": _pod_spec(cluster, pod),
            },
        },
    }


def secret_manifest(pod: PodJob, owner: Manifest, files: Mapping[str, bytes]) -> Manifest:
    """Return the Secret with the files of a Job's pod, owned by the Job."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": _metadata(pod, owner),
        "type": "Opaque",
        "immutable": True,
        "data": {name: base64.b64encode(data).decode() for name, data in files.items()},
    }


def service_manifest(pod: PodJob, owner: Manifest) -> Manifest:
    """Return the Service by which hospitals reach a training's server, owned by its Job."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(pod, owner),
        "spec": {
            "type": "ClusterIP",
            "selector": {
                "app.kubernetes.io/component": pod.component,
                GROUP_LABEL: pod.group,
            },
            "ports": [{"name": "superlink", "port": PORT, "targetPort": PORT}],
        },
    }


def _metadata(pod: PodJob, owner: Manifest | None) -> Manifest:
    meta: Manifest = {"name": pod.name, "namespace": pod.namespace, "labels": pod.labels}
    if owner is not None:
        meta["ownerReferences"] = [
            {
                "apiVersion": owner["apiVersion"],
                "kind": owner["kind"],
                "name": owner["metadata"]["name"],
                "uid": owner["metadata"]["uid"],
            }
        ]
    return meta


def _pod_spec(cluster: Cluster, pod: PodJob) -> Manifest:
    return {
        # A new pod for each attempt keeps the last words of the one before.
        "restartPolicy": "Never",
        "serviceAccountName": pod.account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": _GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            # Else the pod could not read its Secret, nor its account's web identity token.
            "fsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        **({"nodeSelector": dict(cluster.node_selector)} if cluster.node_selector else {}),
        **({"tolerations": _tolerations(cluster)} if cluster.tolerations else {}),
        "containers": [_container(pod)],
        "volumes": _volumes(pod),
    }


def _final(pod: PodJob) -> Manifest:
    """Return the rule that ends a Job whose pod says that another would fail as well."""
    codes = {"containerName": pod.component, "operator": "In", "values": [FINAL]}
    return {"action": "FailJob", "onExitCodes": codes}


def _container(pod: PodJob) -> Manifest:
    given = {"cpu": pod.resources.cpu, "memory": pod.resources.memory}
    mounts: list[Manifest] = [
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
        {"name": "consortium", "mountPath": CONSORTIUM_FOLDER, "readOnly": True},
    ]
    if pod.secret:
        mounts.append({"name": "run", "mountPath": SECRETS_FOLDER, "readOnly": True})
    return {
        "name": pod.component,
        "image": pod.image,
        "command": list(pod.command),
        "env": [
            # The only place that can be written to.
            {"name": "HOME", "value": "/tmp"},  # noqa: S108
            {"name": "FLA_HOME", "value": "/tmp/fla"},  # noqa: S108
            {"name": "FLA_CONSORTIUM", "value": f"{CONSORTIUM_FOLDER}/consortium.yaml"},
            {"name": "PYTHONUNBUFFERED", "value": "1"},
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        ],
        "envFrom": [{"configMapRef": {"name": "fla-environment"}}],
        "resources": {"requests": given, "limits": dict(given)},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "terminationMessagePolicy": "File",
        "volumeMounts": mounts,
    }


def _volumes(pod: PodJob) -> list[Manifest]:
    volumes: list[Manifest] = [
        {"name": "tmp", "emptyDir": {}},
        {"name": "consortium", "configMap": {"name": "consortium"}},
    ]
    if pod.secret:
        secret = {"secretName": pod.name, "defaultMode": 0o440}
        volumes.append({"name": "run", "secret": secret})
    return volumes


def _tolerations(cluster: Cluster) -> list[Manifest]:
    return [
        {"key": t.key, "effect": t.effect, "operator": "Exists"}
        if t.value is None
        else {"key": t.key, "effect": t.effect, "operator": "Equal", "value": t.value}
        for t in cluster.tolerations
    ]


def _label(text: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", text)[:_LABEL_LENGTH]
    return plain.strip("-._")

"""Kubernetes objects for tests."""

from __future__ import annotations

from typing import Any

Manifest = dict[str, Any]
IMAGE = "registry.example/tool:1"
RESTRICTED = {
    "runAsNonRoot": True,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


def pod_spec(*command: str, **more: Any) -> Manifest:
    """A pod's spec; what is no field of the pod's is one of its container."""
    of_pod = {
        "serviceAccountName",
        "automountServiceAccountToken",
        "activeDeadlineSeconds",
        "terminationGracePeriodSeconds",
        "volumes",
        "nodeSelector",
        "tolerations",
        "restartPolicy",
    }
    container = {"name": "main", "image": IMAGE, "command": list(command)}
    container |= {key: value for key, value in more.items() if key not in of_pod}
    spec = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1}
    spec |= {key: value for key, value in more.items() if key in of_pod}
    return {**spec, "containers": [container]}


def pod(name: str, *command: str, namespace: str = "default", **more: Any) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": pod_spec(*command, **more),
    }


def job(
    name: str,
    *command: str,
    namespace: str = "default",
    labels: dict[str, str] | None = None,
    spec: Manifest | None = None,
    **more: Any,
) -> Manifest:
    template = {"metadata": {"labels": labels or {}}, "spec": pod_spec(*command, **more)}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": namespace, "labels": labels or {}},
        "spec": {"backoffLimit": 0, "template": template, **(spec or {})},
    }


def named(kind: str, name: str, namespace: str | None = None, **fields: Any) -> Manifest:
    versions = {
        "Role": "rbac.authorization.k8s.io/v1",
        "RoleBinding": "rbac.authorization.k8s.io/v1",
    }
    labels = fields.pop("labels", {})
    metadata = {"name": name, "labels": labels} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": versions.get(kind, "v1"), "kind": kind, "metadata": metadata, **fields}


def role_for(namespace: str, account: str, rules: list[Manifest], home: str = "") -> list[Manifest]:
    """A role in a namespace and its binding to an account of the same or of another one."""
    group = "rbac.authorization.k8s.io"
    subject = {"kind": "ServiceAccount", "name": account, "namespace": home or namespace}
    reference = {"apiGroup": group, "kind": "Role", "name": account}
    return [
        named("Role", account, namespace, rules=rules),
        named("RoleBinding", account, namespace, roleRef=reference, subjects=[subject]),
    ]

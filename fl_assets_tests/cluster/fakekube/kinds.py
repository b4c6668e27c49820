"""The kinds of objects that are served."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """A kind of objects, as discovery tells it."""

    name: str
    plural: str
    group: str = ""
    namespaced: bool = True
    short: str = ""

    @property
    def api_version(self) -> str:
        """``v1`` of the core group, ``group/v1`` of any other."""
        return f"{self.group}/v1" if self.group else "v1"

    @property
    def resource(self) -> str:
        """As messages name it, such as ``jobs.batch``."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def title(self) -> str:
        """As messages on invalid objects name it, such as ``Job.batch``."""
        return f"{self.name}.{self.group}" if self.group else self.name


POD = Kind("Pod", "pods", short="po")
JOB = Kind("Job", "jobs", "batch")
SERVICE = Kind("Service", "services", short="svc")
SECRET = Kind("Secret", "secrets")
CONFIG_MAP = Kind("ConfigMap", "configmaps", short="cm")
ACCOUNT = Kind("ServiceAccount", "serviceaccounts", short="sa")
EVENT = Kind("Event", "events", short="ev")
NAMESPACE = Kind("Namespace", "namespaces", namespaced=False, short="ns")
NODE = Kind("Node", "nodes", namespaced=False, short="no")
ROLE = Kind("Role", "roles", "rbac.authorization.k8s.io")
ROLE_BINDING = Kind("RoleBinding", "rolebindings", "rbac.authorization.k8s.io")
CLUSTER_ROLE = Kind("ClusterRole", "clusterroles", "rbac.authorization.k8s.io", False)
CLUSTER_ROLE_BINDING = Kind(
    "ClusterRoleBinding", "clusterrolebindings", "rbac.authorization.k8s.io", False
)
POLICY = Kind(
    "ValidatingAdmissionPolicy",
    "validatingadmissionpolicies",
    "admissionregistration.k8s.io",
    namespaced=False,
)
POLICY_BINDING = Kind(
    "ValidatingAdmissionPolicyBinding",
    "validatingadmissionpolicybindings",
    "admissionregistration.k8s.io",
    namespaced=False,
)

KINDS = (
    POD,
    JOB,
    SERVICE,
    SECRET,
    CONFIG_MAP,
    ACCOUNT,
    EVENT,
    NAMESPACE,
    NODE,
    ROLE,
    ROLE_BINDING,
    CLUSTER_ROLE,
    CLUSTER_ROLE_BINDING,
    POLICY,
    POLICY_BINDING,
    # Only stored.
    Kind("ResourceQuota", "resourcequotas", short="quota"),
    Kind("LimitRange", "limitranges", short="limits"),
    Kind("NetworkPolicy", "networkpolicies", "networking.k8s.io", short="netpol"),
)
# Asked of, never stored.
ACCESS_REVIEW = Kind(
    "SelfSubjectAccessReview", "selfsubjectaccessreviews", "authorization.k8s.io", False
)
BY_NAME = {kind.name: kind for kind in KINDS}
BY_RESOURCE = {(kind.group, kind.plural): kind for kind in (*KINDS, ACCESS_REVIEW)}


def kind_of(manifest: Manifest) -> Kind:
    """Return the kind of an object; ``KeyError`` for one that is not served."""
    return BY_NAME[manifest["kind"]]


def labels_of(manifest: Manifest) -> dict[str, str]:
    """Return the labels of an object."""
    return manifest["metadata"].get("labels") or {}

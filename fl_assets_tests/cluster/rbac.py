"""The chart's rights as objects, without helm: what the tests' API server enforces."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from fl_assets.consortium import Cluster

CHART = Path(__file__).resolve().parents[2] / "charts/fl-consortium"


def rbac_objects(
    cluster: Cluster, hospitals: Iterable[str], mlops: str = "mlops"
) -> list[dict[str, Any]]:
    """Return the Roles and RoleBindings of a consortium."""
    rules = yaml.safe_load((CHART / "files/rbac.yaml").read_text())
    training = cluster.namespace
    grants = [
        ("coordinator", training, rules["training"], training),
        ("dagster", training, rules["launcher"], mlops),
        *(
            ("coordinator", cluster.namespace_of(hospital), rules["hospital"], training)
            for hospital in hospitals
        ),
    ]
    return [item for grant in grants for item in _grant(*grant)]


def _grant(
    account: str, namespace: str, rules: list[dict[str, Any]], home: str
) -> list[dict[str, Any]]:
    metadata = {"name": account, "namespace": namespace}
    group = "rbac.authorization.k8s.io"
    role = {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": metadata, "rules": rules}
    binding = {
        "apiVersion": f"{group}/v1",
        "kind": "RoleBinding",
        "metadata": metadata,
        "roleRef": {"apiGroup": group, "kind": "Role", "name": account},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": home}],
    }
    return [role, binding]

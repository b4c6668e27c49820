"""A consortium of two hospitals, and what Terraform would have made for it."""

import json
from pathlib import Path
from typing import Any

ACCOUNT = "123456789012"
TAG = "0123456789abcdef0123456789abcdef01234567"

CONSORTIUM = """\
name: acme
cohort: stroke
bucket: "s3://acme-{hospital}"
split: {salt: acme-salt-1}
hospitals: [{name: north}, {name: south}]
"""


def role(name: str) -> str:
    return f"arn:aws:iam::{ACCOUNT}:role/{name}"


def outputs(hospitals: tuple[str, ...] = ("north", "south")) -> dict[str, Any]:
    """What ``terraform output -json`` says, name by name."""
    registry = f"{ACCOUNT}.dkr.ecr.eu-central-1.amazonaws.com/acme"
    return {
        "region": "eu-central-1",
        "vpc_id": "vpc-1",
        "vpc_cidr": "10.0.0.0/16",
        "cluster_name": "acme",
        "kubernetes_version": "1.35",
        "namespace": "federated-learning",
        "coordinator_uri": f"s3://acme-coordinator-{ACCOUNT}",
        "mlflow_uri": f"s3://acme-mlflow-{ACCOUNT}",
        "upload_queue_url": "https://sqs.eu-central-1.amazonaws.com/1/uploads",
        "database_host": "acme.abc.eu-central-1.rds.amazonaws.com",
        "roles": {name: role(f"acme-{name}") for name in ("coordinator", "server", "mlflow")},
        "controller_roles": {
            name: role(f"acme-{name}")
            for name in ("ebs-csi", "cluster-autoscaler", "load-balancer")
        },
        "hospitals": {name: {"site_role_arn": role(f"acme-{name}-site")} for name in hospitals},
        "repositories": {
            name: f"{registry}/{name}" for name in ("dagster", "site", "server", "dashboard")
        },
    }


def write(folder: Path) -> tuple[Path, Path]:
    """Write consortium.yaml and the outputs; return where they are."""
    consortium, printed = folder / "consortium.yaml", folder / "outputs.json"
    consortium.write_text(CONSORTIUM)
    printed.write_text(
        json.dumps({k: {"value": v, "sensitive": False} for k, v in outputs().items()})
    )
    return consortium, printed

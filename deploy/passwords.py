"""Passwords: made once, kept in AWS Secrets Manager, handed to the cluster as Secrets.

None is in an argument, a file or Terraform's state.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from typing import Any

from deploy.commands import Commands
from deploy.errors import DeploymentError

NAMES = ("dagster-database", "mlflow-database", "grafana")
"""Entries that are made here."""

LOGIN = "ingress"
"""Entry whose value is the identity provider's to give."""


def ensure(commands: Commands, outputs: Mapping[str, Any]) -> dict[str, str]:
    """Return the passwords by name; those that are not there yet are made.

    Raises:
        DeploymentError: Secrets Manager refused.
    """
    return {name: _ensure(commands, outputs["secret_arns"][name]) for name in NAMES}


def administrator(commands: Commands, outputs: Mapping[str, Any]) -> dict[str, str]:
    """Return name and password of the database's administrator, which RDS made and renews.

    Raises:
        DeploymentError: Secrets Manager refused.
    """
    text = commands.run(_read(outputs["database_administrator_secret_arn"]))
    found = json.loads(text or "{}")
    return {name: found.get(name, "") for name in ("username", "password")}


def hand_over(commands: Commands, passwords: Mapping[str, str], mlops: str, training: str) -> None:
    """Make the Secrets that the charts name, or bring them up to date.

    Raises:
        DeploymentError: the cluster refused.
    """
    database = {"postgresql-password": passwords["dagster-database"]}
    for namespace in (mlops, training):
        apply_secret(commands, namespace, "dagster-postgresql-secret", database)
    mlflow = {"username": "mlflow", "password": passwords["mlflow-database"]}
    apply_secret(commands, mlops, "mlflow-postgres", mlflow)
    grafana = {"admin-user": "admin", "admin-password": passwords["grafana"]}
    apply_secret(commands, mlops, "grafana-admin", grafana)


def hand_over_login(
    commands: Commands, outputs: Mapping[str, Any], namespace: str, name: str
) -> None:
    """Make the Secret by which the load balancer shows itself to the identity provider.

    Raises:
        DeploymentError: its entry in Secrets Manager has no value, or one that does not fit.
    """
    arn = outputs["secret_arns"][LOGIN]
    try:
        found = commands.run(_read(arn)).strip()
    except DeploymentError as error:
        if "ResourceNotFoundException" not in str(error):
            raise
        found = ""
    if commands.dry:
        found = '{"clientID": "", "clientSecret": ""}'
    try:
        client = json.loads(found)
        values = {key: str(client[key]) for key in ("clientID", "clientSecret")}
    except (ValueError, KeyError, TypeError):
        # Not the value, nor what is wrong with it: it holds a secret.
        raise DeploymentError(
            f"the secret {arn} has no client of the identity provider: put "
            '{"clientID": ..., "clientSecret": ...} there with `aws secretsmanager '
            "put-secret-value --secret-id ... --secret-string file:///dev/stdin`"
        ) from None
    apply_secret(commands, namespace, name, values)


def apply_secret(commands: Commands, namespace: str, name: str, values: Mapping[str, str]) -> None:
    """Make a Secret, or bring it up to date.

    Raises:
        DeploymentError: the cluster refused.
    """
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "type": "Opaque",
        "stringData": dict(values),
    }
    print(f"  Secret {name} in namespace {namespace}", flush=True)
    # Server-side, so that no copy of the values is kept in an annotation.
    apply = ["kubectl", "apply", "--server-side", "--force-conflicts", "-f", "-"]
    commands.run(apply, json.dumps(secret))


def _ensure(commands: Commands, arn: str) -> str:
    try:
        return commands.run(_read(arn)).strip()
    except DeploymentError as error:
        # What Secrets Manager says of an entry that never had a value.
        if "ResourceNotFoundException" not in str(error):
            raise
    made = secrets.token_urlsafe(32)
    commands.run(
        [
            "aws", "secretsmanager", "put-secret-value", "--secret-id", arn,
            "--secret-string", "file:///dev/stdin",
        ],
        made,
    )  # fmt: skip
    return made


def _read(arn: str) -> list[str]:
    return [
        "aws", "secretsmanager", "get-secret-value", "--secret-id", arn,
        "--query", "SecretString", "--output", "text",
    ]  # fmt: skip

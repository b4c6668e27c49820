"""Install or upgrade everything in the cluster: charts, passwords, databases, in their order.

    python -m deploy.install --consortium consortium.yaml --outputs build/outputs.json --tag COMMIT

Safe to run again. Called by deploy/deploy.sh, which makes what Terraform makes and pushes the
images.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy import passwords
from deploy.commands import Commands
from deploy.values import (
    OWN_CHART,
    ROOT,
    charts,
    read_outputs,
    read_overrides,
    write_all,
)
from fl_assets.config import load_yaml_model
from fl_assets.consortium import Consortium
from fl_assets.errors import FlAssetsError

MLOPS = "mlops"
TIMEOUT = "15m"
"""For a chart's pods to be ready, new nodes and first pulls of images included."""

_SETUP = "database-setup"
_USER = 10001  # of the images


def install(
    commands: Commands,
    consortium: Path,
    outputs: Mapping[str, Any],
    tag: str,
    values: Path,
    overrides: Mapping[str, Mapping[str, Any]],
) -> None:
    """Install or upgrade all charts, and what they need besides.

    Args:
        commands: how programs are called.
        consortium: path of consortium.yaml.
        outputs: of terraform/main.
        tag: of the images.
        values: folder for the charts' values.
        overrides: values by chart that come on top of ours.

    Raises:
        FlAssetsError: a file does not fit, or a program failed, in its own words.
    """
    training = load_yaml_model(consortium, Consortium).cluster.namespace
    if not commands.dry:
        write_all(consortium, outputs, tag, values, overrides)
    for chart in charts():
        if chart["name"] == OWN_CHART:
            # Helm keeps its notes on a release in the namespace, which the same chart makes.
            _adopt_namespace(commands, chart)
        _upgrade(commands, chart, values, overridden=chart["name"] in overrides)
        if chart["name"] == OWN_CHART:
            made = passwords.ensure(commands, outputs)
            passwords.hand_over(commands, made, MLOPS, training)
            _hand_over_login(commands, outputs, overrides.get(OWN_CHART, {}))
            _make_databases(commands, outputs, made, tag)


def _hand_over_login(
    commands: Commands, outputs: Mapping[str, Any], own: Mapping[str, Any]
) -> None:
    """Give the load balancer what it says to the identity provider, if it asks one by OIDC."""
    ingress = own.get("ingress", {})
    auth = ingress.get("auth", {})
    if ingress.get("enabled") and auth.get("type") == "oidc":
        passwords.hand_over_login(commands, outputs, MLOPS, str(auth.get("secretName")))


def _upgrade(
    commands: Commands, chart: Mapping[str, str], values: Path, *, overridden: bool
) -> None:
    name = chart["name"]
    overrides = ["--values", str(values / f"{name}.overrides.yaml")] if overridden else []
    source = (
        [str(ROOT / chart["path"])]
        if "path" in chart
        else [name, "--repo", chart["repository"], "--version", chart["version"]]
    )
    commands.run(
        [
            "helm", "upgrade", "--install", name, *source, "--namespace", chart["namespace"],
            "--values", str(values / f"{name}.yaml"), *overrides, "--wait", "--timeout", TIMEOUT,
            "--rollback-on-failure",
        ]
    )  # fmt: skip


def _adopt_namespace(commands: Commands, chart: Mapping[str, str]) -> None:
    release = {
        "meta.helm.sh/release-name": chart["name"],
        "meta.helm.sh/release-namespace": chart["namespace"],
    }
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": chart["namespace"],
            "labels": {"app.kubernetes.io/managed-by": "Helm"},
            "annotations": release,
        },
    }
    apply = ["kubectl", "apply", "--server-side", "--field-manager", "deploy", "-f", "-"]
    commands.run(apply, json.dumps(namespace))


def _make_databases(
    commands: Commands, outputs: Mapping[str, Any], made: Mapping[str, str], tag: str
) -> None:
    """Run deploy/databases.py in a pod; its Secret with all passwords goes again at once."""
    administrator = passwords.administrator(commands, outputs)
    environment = {
        "HOST": outputs["database_host"],
        "NAMES": "dagster mlflow",
        "ADMINISTRATOR": administrator["username"],
        "ADMINISTRATOR_PASSWORD": administrator["password"],
        "DAGSTER_PASSWORD": made["dagster-database"],
        "MLFLOW_PASSWORD": made["mlflow-database"],
    }
    remove = [
        "kubectl", "-n", MLOPS, "delete", "pod,secret", _SETUP, "--ignore-not-found", "--wait",
    ]  # fmt: skip
    commands.run(remove)
    try:
        passwords.apply_secret(commands, MLOPS, _SETUP, environment)
        image = f"{outputs['repositories']['dagster']}:{tag}"
        commands.run(["kubectl", "create", "-f", "-"], json.dumps(_setup_pod(image)))
        done = "jsonpath={.status.phase}=Succeeded"
        wait = ["kubectl", "-n", MLOPS, "wait", f"pod/{_SETUP}", f"--for={done}", "--timeout=5m"]
        try:
            commands.run(wait)
        finally:
            print(commands.run(["kubectl", "-n", MLOPS, "logs", _SETUP, "--tail=20"]), end="")
    finally:
        commands.run(remove)


def _setup_pod(image: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": _SETUP, "namespace": MLOPS},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "activeDeadlineSeconds": 300,
            "nodeSelector": {"fl/pool": "system"},
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": _USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "setup",
                    "image": image,
                    # As an argument, for the image has the package alone. It holds no secret.
                    "command": ["python", "-c", (ROOT / "deploy" / "databases.py").read_text()],
                    "envFrom": [{"secretRef": {"name": _SETUP}}],
                    "resources": {
                        "requests": {"cpu": "50m", "memory": "64Mi"},
                        "limits": {"cpu": "500m", "memory": "256Mi"},
                    },
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
        },
    }


_UNKNOWN: dict[str, Any] = {
    "secret_arns": {name: f"ARN-OF-{name}" for name in (*passwords.NAMES, passwords.LOGIN)},
    "database_administrator_secret_arn": "ARN-OF-THE-ADMINISTRATOR",
    "database_host": "HOST",
    "repositories": {"dagster": "REGISTRY/dagster"},
}
"""What Terraform would say, for a dry run before it has made anything."""


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--consortium", type=Path, default=ROOT / "consortium.yaml")
    parser.add_argument("--outputs", type=Path, help="of terraform/main; needless in a dry run")
    parser.add_argument("--tag", required=True, help="of the images")
    parser.add_argument("--overrides", type=Path, help="values by chart that come on top of ours")
    parser.add_argument("--values", type=Path, default=ROOT / "build" / "values", help="folder")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done")
    given = parser.parse_args()
    if given.outputs is None and not given.dry_run:
        parser.error("--outputs is needed, for this is no dry run")
    try:
        outputs = _UNKNOWN if given.dry_run else read_outputs(given.outputs)
        commands = Commands(dry=given.dry_run)
        overrides = read_overrides(given.overrides)
        install(commands, given.consortium, outputs, given.tag, given.values, overrides)
    except FlAssetsError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()

"""A world's consortium in a fake cluster: what the chart fl-consortium installs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from fl_assets.settings import Settings
from fl_assets_tests.cluster.fakekube import FakeKube
from fl_assets_tests.cluster.fakekube.kinds import Manifest

RULES = Path(__file__).resolve().parents[2] / "charts/fl-consortium/files/rbac.yaml"
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
SITE_IMAGE, SERVER_IMAGE, RUN_IMAGE = "registry/site:1", "registry/server:1", "registry/dagster:1"


def prepare(settings: Settings, **cluster: Any) -> Settings:
    """Rewrite a world's consortium file so that a pod, whose home is its own, finds the stores.

    Returns:
        settings that name the images.
    """
    config = yaml.safe_load(settings.consortium_file.read_text())
    config["bucket"] = f"file://{settings.home}/sites/{{hospital}}"
    config["cluster"] = cluster
    settings.consortium_file.write_text(yaml.safe_dump(config))
    return Settings(
        home=settings.home,
        consortium_file=settings.consortium_file,
        recipes=settings.recipes,
        tracking_uri=settings.tracking_uri,
        coordinator_uri=settings.coordinator_uri,
        runtime="kubernetes",
        site_image=SITE_IMAGE,
        server_image=SERVER_IMAGE,
    )


def installed(settings: Settings) -> list[Manifest]:
    """Return namespaces, accounts, rights and ConfigMaps of a consortium."""
    rules = yaml.safe_load(RULES.read_text())
    cluster = settings.whole_consortium.cluster
    training = cluster.namespace
    environment = {"FLA_COORDINATOR": settings.coordinator_uri}
    tracking = {"MLFLOW_TRACKING_URI": settings.tracking_uri}
    found = [
        *_namespace("mlops", "dagster"),
        *_namespace(training, "coordinator", "server"),
        *_grant(training, "coordinator", training, rules["training"]),
        *_grant(training, "dagster", "mlops", rules["launcher"]),
        *_config_maps(training, settings, environment | tracking),
    ]
    for hospital in settings.whole_consortium.hospital_names:
        place = cluster.namespace_of(hospital)
        found += [
            *_namespace(place, "site"),
            *_grant(place, "coordinator", training, rules["hospital"]),
            *_config_maps(place, settings, environment),
        ]
    return found


def _namespace(name: str, *accounts: str) -> list[Manifest]:
    return [
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": RESTRICTED},
        },
        *(
            {
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": {"name": account, "namespace": name},
                "automountServiceAccountToken": False,
            }
            for account in accounts
        ),
    ]


def _grant(namespace: str, account: str, of: str, rules: list[Manifest]) -> list[Manifest]:
    meta = {"name": account, "namespace": namespace}
    rbac = "rbac.authorization.k8s.io"
    return [
        {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": meta, "rules": rules},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "metadata": meta,
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": account},
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": of}],
        },
    ]


def _config_maps(namespace: str, settings: Settings, environment: dict[str, str]) -> list[Manifest]:
    consortium = {"consortium.yaml": settings.consortium_file.read_text()}
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": namespace},
            "data": data,
        }
        for name, data in {"consortium": consortium, "fla-environment": environment}.items()
    ]


def processes_in(kube: FakeKube) -> list[int]:
    """Return the ids of all processes that know of a folder of a cluster's pods.

    Those of a training have an environment of their own, so that they are found by no mark.
    """
    folder = str(Path(kube.kubeconfig).parent).encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if folder in (process / "environ").read_bytes():
                found.append(int(process.name))
        except OSError:
            continue
    return found

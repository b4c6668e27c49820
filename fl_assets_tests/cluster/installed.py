"""A world's consortium in a fake cluster: what the chart fl-consortium installs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from fl_assets.settings import Settings
from fl_assets_tests.cluster.fakekube import FakeKube
from fl_assets_tests.cluster.fakekube.kinds import Manifest
from fl_assets_tests.cluster.rbac import CHART, rbac_objects
from fl_assets_tests.federation.deployment.processes import HERE

RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
SITE_IMAGE, SERVER_IMAGE, RUN_IMAGE = "registry/site:1", "registry/server:1", "registry/dagster:1"
# With the package that is tested, whichever is installed.
IMAGES = {SITE_IMAGE: HERE, SERVER_IMAGE: HERE}


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
    """Return namespaces, accounts, rights, ConfigMaps and the admission policy of a consortium."""
    cluster = settings.whole_consortium.cluster
    training = cluster.namespace
    environment = {"FLA_COORDINATOR": settings.coordinator_uri}
    tracking = {"MLFLOW_TRACKING_URI": settings.tracking_uri}
    found = [
        *_namespace("mlops", "dagster"),
        *_namespace(training, "coordinator", "server"),
        *_config_maps(training, settings, environment | tracking),
    ]
    for hospital in settings.whole_consortium.hospital_names:
        place = cluster.namespace_of(hospital)
        found += [
            *_namespace(place, "site", labels={"fl/part": "hospital", "fl/hospital": hospital}),
            *_config_maps(place, settings, environment),
            _config_map(place, "admitted-pods", {"image": SITE_IMAGE}),
        ]
    rights = rbac_objects(cluster, settings.whole_consortium.hospital_names)
    return [*found, *rights, *admission()]


def admission() -> list[Manifest]:
    """Return the chart's admission policy for the namespaces of hospitals, and its binding."""
    specs = yaml.safe_load((CHART / "files" / "admission.yaml").read_text())
    kind, name = "ValidatingAdmissionPolicy", "fl-hospital-pods"
    shared = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": name}}
    binding = {"policyName": name, **specs["binding"]}
    return [
        {**shared, "kind": kind, "spec": specs["policy"]},
        {**shared, "kind": f"{kind}Binding", "spec": binding},
    ]


def _namespace(name: str, *accounts: str, labels: dict[str, str] | None = None) -> list[Manifest]:
    return [
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": RESTRICTED | (labels or {})},
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


def _config_maps(namespace: str, settings: Settings, environment: dict[str, str]) -> list[Manifest]:
    consortium = {"consortium.yaml": settings.consortium_file.read_text()}
    return [
        _config_map(namespace, "consortium", consortium),
        _config_map(namespace, "fla-environment", environment),
    ]


def _config_map(namespace: str, name: str, data: dict[str, str]) -> Manifest:
    meta = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


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

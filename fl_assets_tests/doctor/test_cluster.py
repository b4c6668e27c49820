"""What the checks say of a cluster, as who deploys and as the coordinator's pod."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from fl_assets.doctor.checks import Finding, Verdict
from fl_assets.doctor.cluster import cluster_checks
from fl_assets.settings import Settings
from fl_assets_tests.cluster.fakekube import FakeKube
from fl_assets_tests.cluster.installed import installed, prepare
from fl_assets_tests.doctor.findings import findings
from fl_assets_tests.world import CONSORTIUM, settings_of

PASSED, PROBLEM, NOT_CHECKED = Verdict.PASSED, Verdict.PROBLEM, Verdict.NOT_CHECKED
TRAINING, RIGHT, WRONG, BARE = (
    "federated-learning",
    "fl-hospital-a",
    "fl-hospital-b",
    "fl-hospital-c",
)


@dataclasses.dataclass
class Place:
    kube: FakeKube
    settings: Settings

    def seen_by(self, kubeconfig: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Finding]:
        monkeypatch.setenv("KUBECONFIG", kubeconfig)
        return findings(cluster_checks(self.settings))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A consortium in a cluster.

    It is right at hospital-a, has wrong rights and an edited file at hospital-b, and neither an
    account nor ConfigMaps at hospital-c.
    """
    home = tmp_path_factory.mktemp("place")
    (home / "consortium.yaml").write_text(yaml.safe_dump(CONSORTIUM))
    settings = prepare(settings_of(home), node_selector={"fl/pool": "training"})
    with FakeKube() as kube:
        for found in installed(settings):
            kind, namespace = found["kind"], found["metadata"].get("namespace")
            if namespace == BARE and kind in {"ServiceAccount", "ConfigMap"}:
                continue
            if namespace == WRONG and kind == "Role":
                logs = {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]}
                found["rules"] = [*found["rules"][1:], logs]
            if namespace == WRONG and "consortium.yaml" in found.get("data", {}):
                config = yaml.safe_load(found["data"]["consortium.yaml"])
                config["privacy_budget"] = {"epsilon": 99.0}
                found["data"]["consortium.yaml"] = yaml.safe_dump(config)
            kube.apply(found)
        yield Place(kube, settings)


def test_who_deploys_sees_what_is_installed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    found = place.seen_by(place.kube.kubeconfig, monkeypatch)

    for namespace in (TRAINING, RIGHT):
        assert found[f"namespace {namespace}"].verdict == PASSED
        assert found[f"consortium file in {namespace}"].verdict == PASSED
        # All rights of an administrator say nothing of the coordinator's.
        assert found[f"coordinator's rights in {namespace}"].verdict == NOT_CHECKED
    assert found["Kubernetes API"].verdict == PASSED
    assert found["nodes for trainings"].found == "there are 1 with fl/pool=training"


def test_who_deploys_sees_what_is_missing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    found = place.seen_by(place.kube.kubeconfig, monkeypatch)

    assert found[f"namespace {BARE}"].found == (
        f"namespace {BARE} has no service account site and no ConfigMap consortium and no "
        "ConfigMap fla-environment"
    )
    assert found[f"consortium file in {BARE}"].verdict == PROBLEM
    edited = found[f"consortium file in {WRONG}"]
    assert edited.verdict == PROBLEM
    assert edited.found.endswith("consortium.yaml in privacy_budget")
    assert "fl-consortium" in str(edited.cure)


def test_a_namespace_that_is_not_there_is_named(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = yaml.safe_load(place.settings.consortium_file.read_text())
    elsewhere = place.settings.home / "elsewhere.yaml"
    elsewhere.write_text(yaml.safe_dump({**config, "cluster": {"namespace": "elsewhere"}}))
    settings = dataclasses.replace(place.settings, consortium_file=elsewhere)
    found = Place(place.kube, settings).seen_by(place.kube.kubeconfig, monkeypatch)

    assert found["namespace elsewhere"].found == "there is no namespace elsewhere"
    assert found["nodes for trainings"].found == "any node will do"


def test_the_coordinators_pod_sees_its_rights_and_nothing_else(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = place.seen_by(place.kube.kubeconfig_for(TRAINING, "coordinator"), monkeypatch)

    assert found[f"coordinator's rights in {TRAINING}"].verdict == PASSED
    assert found[f"coordinator's rights in {RIGHT}"].verdict == PASSED
    assert found[f"namespace {RIGHT}"].verdict == NOT_CHECKED
    assert found[f"consortium file in {RIGHT}"].verdict == NOT_CHECKED
    assert found["nodes for trainings"].verdict == NOT_CHECKED


def test_rights_that_are_missing_or_too_many_are_named(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = place.seen_by(place.kube.kubeconfig_for(TRAINING, "coordinator"), monkeypatch)
    rights = found[f"coordinator's rights in {WRONG}"]

    assert rights.verdict == PROBLEM
    assert "may not create jobs" in rights.found
    assert rights.found.endswith("may get pods/log")


def test_a_cluster_that_is_away_is_one_problem(
    place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = yaml.safe_load(Path(place.kube.kubeconfig).read_text())
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    away = tmp_path / "kubeconfig"
    away.write_text(yaml.safe_dump(config))

    found = place.seen_by(str(away), monkeypatch)

    assert found["Kubernetes API"].verdict == PROBLEM
    others = found.keys() - {"Kubernetes API", "images"}
    assert {found[name].verdict for name in others} == {NOT_CHECKED}


def test_without_a_cluster_the_cure_is_said(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    api = findings(cluster_checks(place.settings))["Kubernetes API"]

    assert api.verdict == PROBLEM
    assert "KUBECONFIG" in str(api.cure)


@pytest.mark.parametrize(
    ("image", "verdict"),
    [
        (None, PROBLEM),
        ("registry:5000/fl/site", PROBLEM),
        ("registry/site:latest", PROBLEM),
        ("registry:5000/fl/site:4f2a9c1", PASSED),
        ("registry/site@sha256:" + "0" * 64, PASSED),
    ],
)
def test_images_have_a_version(place: Place, image: str | None, verdict: Verdict) -> None:
    settings = dataclasses.replace(place.settings, site_image=image)
    images = next(cluster_checks(settings))

    assert findings([images])["images"].verdict == verdict

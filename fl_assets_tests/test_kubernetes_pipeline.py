"""From uploads to a champion, every step a pod: runs of Dagster that K8sRunLauncher launches."""

from __future__ import annotations

import shutil
from pathlib import Path

import dagster as dg
import pytest
import yaml

from fl_assets.coordinator.training import load_release
from fl_assets.defs.jobs import TRAIN_AND_PROMOTE
from fl_assets.defs.partitions import sync_hospitals
from fl_assets.settings import Settings
from fl_assets.tracking.models import CHAMPION, Registry
from fl_assets.tracking.runs import Tracking
from fl_assets_tests.cluster.dagster_runs import (
    TRAINING,
    await_run,
    cluster_of,
    instance_of,
    launch,
    messages,
    status,
)
from fl_assets_tests.cluster.installed import prepare
from fl_assets_tests.world import settings_of

pytestmark = [pytest.mark.infra, pytest.mark.services, pytest.mark.timeout(900)]

REAL = {
    "simulated": False,
    "privacy_budget": {"unprotected_runs": True},
    # With so few patients the attack's intervals are wide, its control's as well.
    "promotion": {
        "min_auroc": 0.0,
        "min_gain_over_age_only": -1.0,
        "max_ece": 1.0,
        "max_membership_auc": 0.5,
    },
}


@pytest.fixture
def settings(_pristine_world: Path, tmp_path: Path) -> Settings:
    """A real consortium whose hospitals have uploads, and have done nothing with them."""
    home = tmp_path / "world"
    shutil.copytree(_pristine_world, home)
    file = home / "consortium.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | REAL))
    settings = prepare(settings_of(home))
    for site in (home / "sites").iterdir():
        for part in site.iterdir():
            if part.name != "incoming":
                shutil.rmtree(part) if part.is_dir() else part.unlink()
    return settings


def test_from_uploads_to_a_champion(
    settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> None:
    names = settings.consortium.hospital_names
    with (
        cluster_of(settings, tmp_path_factory.getbasetemp()) as kube,
        instance_of(settings, kube) as instance,
    ):
        sync_hospitals(instance, settings.consortium)
        for partition, job in [
            *((name, "refresh_hospital") for name in names),
            ("small-lr", TRAIN_AND_PROMOTE),
        ]:
            run = launch(instance, kube, partition, job)
            await_run(instance, run)
            assert status(instance, run) == dg.DagsterRunStatus.SUCCESS, messages(instance, run)
        kube.wait_gone(**{"app.kubernetes.io/name": "fl-assets"})
        made = [
            (r.namespace, r.account)
            for r in kube.requests
            if (r.verb, r.resource, r.code) == ("create", "jobs", 201)
        ]
        # The runs' own Jobs are the launcher's, all others the coordinator's.
        assert {account for _, account in made} == {"mlops/dagster", f"{TRAINING}/coordinator"}
        assert {namespace for namespace, _ in made} == {TRAINING, *map("fl-{}".format, names)}
        assert not [r for r in kube.requests if r.code == 403]

    store = settings.coordinator_store()
    release = load_release(store, "small-lr")
    assert set(release.hospitals) == set(names)
    tracking = Tracking(settings.tracking_uri, settings.consortium.name)
    champion = Registry(tracking, settings.model_name).alias(CHAMPION)
    assert champion is not None
    assert str(champion.version) == release.version

"""Tasks as the hospitals' own pods, in a fake cluster that enforces the accounts' rights."""

from __future__ import annotations

import _thread
import threading
from collections.abc import Iterator

import pytest

from fl_assets.cluster.site_jobs import SiteJobError
from fl_assets.coordinator.sites import Sites, SiteTaskError, came_of, sites_of
from fl_assets.settings import Settings
from fl_assets.site.intake import load_manifest as load_records
from fl_assets.site.partitions import load_manifest
from fl_assets.site.profile import load_profile
from fl_assets.site.tasks.base import perform
from fl_assets.site.tasks.data import BuildPartitions, BuildProfile, CollectRecords
from fl_assets.site.tasks.models import AuditModel, CompareModels, EvaluateModel, FitBaseline
from fl_assets.storage import ObjectNotFoundError
from fl_assets_tests.cluster.fakekube import FakeKube
from fl_assets_tests.cluster.installed import IMAGES, installed, prepare
from fl_assets_tests.site.test_tasks import a_model, all_requests
from fl_assets_tests.site.unforeseen import QUOTED, unforeseen
from fl_assets_tests.storage.fenced import fenced

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]

ME = "hospital-a"


@pytest.fixture
def settings(world: Settings) -> Settings:
    return prepare(world, start_seconds=120, deadline_seconds=120)


@pytest.fixture
def cluster(
    settings: Settings, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FakeKube]:
    """What the chart installs; this process has the coordinator's account."""
    with FakeKube(IMAGES, host_paths=[tmp_path_factory.getbasetemp()]) as found:
        found.apply(*installed(settings))
        namespace = settings.whole_consortium.cluster.namespace
        monkeypatch.setenv("KUBECONFIG", found.kubeconfig_for(namespace, "coordinator"))
        yield found
        found.wait_gone()
    assert settings.coordinator_store().history("tasks/") == []


@pytest.fixture
def sites(settings: Settings, cluster: FakeKube) -> Sites:
    return sites_of(fenced(settings))


def test_from_an_upload_to_figures_of_a_model(
    sites: Sites, settings: Settings, cluster: FakeKube
) -> None:
    store = settings.site_store(ME)
    before = load_records(store), load_manifest(store), load_profile(store)
    for key in ("records/manifest.json", "partitions/manifest.json", "profile/manifest.json"):
        store.delete(key)
    made = tuple(
        sites.ask(ME, request(run="r"))
        for request in (CollectRecords, BuildPartitions, BuildProfile)
    )
    assert made == before
    assert (load_records(store), load_manifest(store), load_profile(store)) == before

    model = a_model(settings)
    request = EvaluateModel(run="r", model=model)
    names = settings.consortium.hospital_names[:2]
    found = sites.ask_all(dict.fromkeys(names, request))
    assert found == {name: perform(settings, name, request) for name in names}

    made_at = [r.namespace for r in cluster.requests if (r.verb, r.code) == ("create", 201)]
    assert made_at == [f"fl-{name}" for name in (ME, ME, ME, *names)]
    assert {r.account for r in cluster.requests} == {"federated-learning/coordinator"}
    assert not [r for r in cluster.requests if r.code == 403]


@pytest.mark.infra
def test_baseline_comparison_and_audit_are_pods_as_well(
    sites: Sites, settings: Settings, cluster: FakeKube
) -> None:
    tasks = {"baseline": FitBaseline, "compare": CompareModels, "audit": AuditModel}
    requests = {
        name: next(r for r in all_requests(settings, name) if isinstance(r, kind))
        for name, kind in zip(settings.consortium.hospital_names, tasks.values(), strict=True)
    }
    assert [request.task for request in requests.values()] == list(tasks)
    expected = {name: perform(settings, name, request) for name, request in requests.items()}
    assert sites.ask_all(requests) == expected
    made_at = [r.namespace for r in cluster.requests if (r.verb, r.code) == ("create", 201)]
    assert made_at == [f"fl-{name}" for name in requests]


def test_an_error_in_the_hospitals_words(sites: Sites, settings: Settings) -> None:
    settings.site_store(ME).delete("partitions/manifest.json")
    with pytest.raises(SiteTaskError, match=r"^hospital-a: ObjectNotFoundError: ") as caught:
        sites.ask(ME, BuildProfile(run="r"))
    assert came_of(caught.value, ObjectNotFoundError)


def test_an_unforeseen_error_by_its_type_alone(sites: Sites, settings: Settings) -> None:
    unforeseen(settings.site_store(ME))
    with pytest.raises(SiteJobError, match="unforeseen KeyError") as caught:
        sites.ask(ME, BuildProfile(run="r"))
    assert QUOTED not in str(caught.value)


def test_a_run_that_is_cancelled_leaves_nothing(
    sites: Sites, settings: Settings, cluster: FakeKube
) -> None:
    running: list[str] = []

    def cancel() -> None:
        cluster.until(lambda: cluster.processes() and len(cluster.objects("Pod")) == 3, seconds=60)
        for pod in cluster.objects("Pod"):
            running.append(f"{pod['metadata']['namespace']}/{pod['spec']['serviceAccountName']}")
        _thread.interrupt_main()

    canceller = threading.Thread(target=cancel)
    canceller.start()
    names = settings.consortium.hospital_names
    with pytest.raises(KeyboardInterrupt):
        sites.ask_all(dict.fromkeys(names, BuildPartitions(run="r")))
    canceller.join()
    assert set(running) == {f"fl-{name}/site" for name in names}

"""The coordinator asks hospitals and opens no row: shown by its code and by its rights."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

import fl_assets
from fl_assets.cluster import site_jobs
from fl_assets.cluster.site_jobs import SiteJobError
from fl_assets.coordinator.audit import audit_release, load_audit
from fl_assets.coordinator.budget import open_ledger
from fl_assets.coordinator.comparison import compare
from fl_assets.coordinator.evaluation import evaluate_release, load_evaluation
from fl_assets.coordinator.pair import compare_recipes
from fl_assets.coordinator.pod_sites import BadAnswerError, PodSites
from fl_assets.coordinator.preprocessors import build_preprocessors, load_preprocessors
from fl_assets.coordinator.readiness import hospital_state
from fl_assets.coordinator.sites import (
    InProcessSites,
    SiteDataError,
    SiteTaskError,
    came_of,
    sites_of,
)
from fl_assets.coordinator.status import consortium_status
from fl_assets.coordinator.training import is_current, load_release, ready_sites
from fl_assets.errors import BadDataError, FlAssetsError
from fl_assets.federation.runtimes.base import NoImageError
from fl_assets.privacy.ledger_chain import LedgerDamagedError
from fl_assets.settings import Settings
from fl_assets.site.egress import EgressLog
from fl_assets.site.intake import new_uploads
from fl_assets.site.partitions import load_manifest
from fl_assets.site.profile import load_profile
from fl_assets.site.tasks import wire
from fl_assets.site.tasks.data import BuildPartitions, BuildProfile, ShowLedger
from fl_assets.storage import ObjectNotFoundError
from fl_assets.storage.base import AccessDeniedError
from fl_assets_tests.storage.fenced import fenced
from fl_assets_tests.storage.hospitals import OBJECTS, ROWS

PACKAGE = Path(fl_assets.__file__).parent
ME = "hospital-a"


def callers(method: str) -> set[str]:
    """Files of the package that call a method of this name."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr == method:
                found.add(path.relative_to(PACKAGE).as_posix())
    return found


def test_who_opens_a_hospitals_store_with_the_hospitals_rights() -> None:
    assert callers("site_store") == {
        # A hospital's own code, and rows of simulated hospitals put together.
        "site/tasks/base.py",
        "site/tasks/wire.py",
        "site/pooling.py",
        # What a hospital runs itself: upload, quarantine; erase, delete-data; settle; doctor.
        "cli/uploads.py",
        "cli/leaving.py",
        "cli/privacy.py",
        "doctor/stores.py",
    }


@pytest.fixture
def pods(world: Settings, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Pods are calls in this process, with the hospitals' rights; returns the arguments seen."""
    return run_pods_here(world, monkeypatch)


def run_pods_here(world: Settings, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    seen: list[str] = []

    def run(
        cluster: Any,
        image: str,
        arguments: Mapping[str, Sequence[str]],
        run: str,
        ended: Callable[[str], None],
    ) -> None:
        for hospital, (command, name, task) in arguments.items():
            seen.extend((command, name, task))
            try:
                wire.answer(world, hospital, task)
            except FlAssetsError as error:
                raise SiteJobError(f"the pod of {hospital}: {error}") from error
            ended(hospital)

    monkeypatch.setattr(site_jobs, "run_site_jobs", run)
    return seen


def remote(settings: Settings) -> Settings:
    """Settings of a coordinator whose hospitals have pods, and which has no right on a row."""
    there = dataclasses.replace(settings, runtime="kubernetes", site_image="site:1")
    return fenced(there)


def test_the_fence_is_the_policy(world: Settings) -> None:
    folder = world.site_store(ME)
    for key, content in {**OBJECTS, **ROWS}.items():
        folder.put(key, content)
    store = fenced(world).listing_store(ME)
    for key, content in OBJECTS.items():
        assert store.get(key) == content
        assert store.exists(key)
    for key in ROWS:
        for refused in (store.get, store.exists, store.delete, store.purge):
            with pytest.raises(AccessDeniedError):
                refused(key)
        with pytest.raises(AccessDeniedError):
            store.put(key, b"")
    with pytest.raises(AccessDeniedError):
        store.list("records/")
    assert store.list("incoming/")


def test_without_pods_hospitals_are_played_here(world: Settings) -> None:
    sites = sites_of(world)
    assert isinstance(sites, InProcessSites)
    request = BuildProfile(run="r")
    assert sites.ask(ME, request) == load_profile(world.site_store(ME))
    names = world.consortium.hospital_names
    assert list(sites.ask_all(dict.fromkeys(names, request))) == names
    # Nothing of it is in the coordinator's store.
    assert world.coordinator_store().list("tasks/") == []


def test_all_that_the_coordinator_does_with_its_own_rights_alone(
    finished_world: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_pods_here(finished_world, monkeypatch)
    before = load_evaluation(finished_world.coordinator_store(), "small-lr")
    audited = load_audit(finished_world.coordinator_store(), "small-lr")
    config = yaml.safe_load(finished_world.consortium_file.read_text())
    finished_world.consortium_file.write_text(yaml.safe_dump(config | {"simulated": False}))
    settings = remote(finished_world)
    store, names = settings.coordinator_store(), settings.consortium.hospital_names

    assert list(ready_sites(settings)) == names
    assert all(h.profile for h in consortium_status(settings).hospitals)
    for name in names:
        listing = settings.listing_store(name)
        assert hospital_state(listing).hold is None
        assert new_uploads(listing) == []
        assert EgressLog(listing).damages() == []
        assert open_ledger(settings, name).entries()
    profiles = {name: load_profile(settings.listing_store(name)) for name in names}
    built = load_preprocessors(store)
    assert build_preprocessors(store, settings.cohort, profiles) == built
    release = load_release(store, "small-lr")
    assert is_current(settings, release.recipe, release)

    found = evaluate_release(settings, "small-lr")
    assert found == before.model_copy(update={"pooled": None})
    assert audit_release(settings, "small-lr") == audited
    evaluate_release(settings, "small-mlp")
    assert compare_recipes(settings, "small-lr", "small-mlp").mean is not None
    assert {row.kind for row in compare(settings).models} == {"local", "federated"}
    # Nothing that was asked or answered is left, in any version.
    assert store.history("tasks/") == []


class TestPodSites:
    def test_an_answer_and_what_everybody_may_see_of_it(
        self, world: Settings, pods: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        settings = remote(world)
        names = world.consortium.hospital_names
        sites = sites_of(settings)
        assert isinstance(sites, PodSites)
        request = BuildPartitions(run="r")
        found = sites.ask_all(dict.fromkeys(names, request))
        assert found == {name: load_manifest(world.site_store(name)) for name in names}
        assert len(set(pods[2::3])) == len(names)
        assert pods[1::3] == names
        assert capsys.readouterr().err.splitlines() == [
            "partitions: hospital-a has answered, 2 of 3 have not yet",
            "partitions: hospital-b has answered, 1 of 3 have not yet",
            "partitions: hospital-c has answered",
        ]
        assert sites.ask_all({}) == {}
        assert world.coordinator_store().history("tasks/") == []

    def test_an_error_of_a_hospital_in_its_words(self, world: Settings, pods: list[str]) -> None:
        world.site_store("hospital-b").delete("partitions/manifest.json")
        names = world.consortium.hospital_names
        with pytest.raises(SiteTaskError, match=r"^hospital-b: ObjectNotFoundError: ") as lost:
            sites_of(remote(world)).ask_all(dict.fromkeys(names, BuildProfile(run="r")))
        assert came_of(lost.value, ObjectNotFoundError)
        assert not came_of(lost.value, LedgerDamagedError)
        assert not isinstance(lost.value, BadDataError)
        assert world.coordinator_store().history("tasks/") == []

    def test_an_error_that_no_retry_helps(self, world: Settings, pods: list[str]) -> None:
        world.site_store(ME).put("ledger/junk.json", b"{}")
        with pytest.raises(SiteDataError) as caught:
            sites_of(remote(world)).ask(ME, ShowLedger(run="r"))
        assert came_of(caught.value, LedgerDamagedError)
        with pytest.raises(LedgerDamagedError) as here:
            sites_of(world).ask(ME, ShowLedger(run="r"))
        assert came_of(here.value, LedgerDamagedError)
        assert str(here.value) in str(caught.value)

    @pytest.mark.parametrize(
        ("reply", "why"),
        [
            (b"{}", "1 fields of its reply do not fit"),
            (b'{"answer": {"patient": "Ann"}}', "fields of its reply do not fit"),
            (b"x" * 200, "more than 100 bytes"),
            (None, "its pod left no reply"),
        ],
    )
    def test_a_reply_that_is_no_answer(
        self, world: Settings, monkeypatch: pytest.MonkeyPatch, reply: bytes | None, why: str
    ) -> None:
        store = world.coordinator_store()
        monkeypatch.setattr(wire, "LARGEST_ANSWER", 100)

        def run(_: Any, image: str, arguments: Mapping[str, Sequence[str]], *rest: Any) -> None:
            for _command, hospital, task in arguments.values():
                if reply is not None:
                    store.put(wire.answer_key(hospital, task), reply)

        monkeypatch.setattr(site_jobs, "run_site_jobs", run)
        with pytest.raises((BadAnswerError, wire.TooLargeError), match=why) as caught:
            sites_of(remote(world)).ask(ME, BuildProfile(run="r"))
        assert "Ann" not in str(caught.value)
        assert store.history("tasks/") == []

    def test_a_pod_that_says_nothing_is_told_from_outside(
        self, world: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def run(*_: Any) -> None:
            raise SiteJobError("it ran out of memory")

        monkeypatch.setattr(site_jobs, "run_site_jobs", run)
        with pytest.raises(SiteJobError, match="out of memory"):
            sites_of(remote(world)).ask(ME, BuildProfile(run="r"))
        assert world.coordinator_store().history("tasks/") == []

    def test_no_image(self, world: Settings) -> None:
        settings = dataclasses.replace(world, runtime="kubernetes")
        with pytest.raises(NoImageError, match="FLA_SITE_IMAGE"):
            sites_of(settings).ask(ME, BuildProfile(run="r"))

    def test_a_request_that_is_too_large_is_not_sent(
        self, world: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(wire, "LARGEST_REQUEST", 10)
        with pytest.raises(wire.TooLargeError, match="more than 10 bytes"):
            sites_of(remote(world)).ask(ME, BuildProfile(run="r"))
        assert world.coordinator_store().history("tasks/") == []

"""What the checks say of real stores, and of S3 as each identity."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from fl_assets.doctor.checks import Verdict
from fl_assets.doctor.stores import coordinator_checks, hospital_checks
from fl_assets.settings import Settings
from fl_assets.storage.probing import Answer, ask_for
from fl_assets_tests.doctor.findings import findings, verdicts
from fl_assets_tests.storage.hospitals import NAMES, Hospitals, WebHospitals, bucket
from fl_assets_tests.storage.servers import Handler, serving

PASSED, PROBLEM, NOT_CHECKED = Verdict.PASSED, Verdict.PROBLEM, Verdict.NOT_CHECKED


def test_folders_work_and_keep_no_probe(world: Settings) -> None:
    found = findings(coordinator_checks(world))

    assert {finding.verdict for finding in found.values()} == {PASSED}
    assert list(found) == ["coordinator's store", *(f"store of {name}" for name in NAMES)]
    assert "manifest of its partitions read" in found["store of hospital-a"].found
    for store in (world.coordinator_store(), world.site_store("hospital-a")):
        assert store.history("doctor/") == []


def test_a_folder_that_others_own_cannot_be_checked_from_a_hospital(world: Settings) -> None:
    assert verdicts(hospital_checks(world, "hospital-a")) == {
        "store of hospital-a": PASSED,
        "store of hospital-b is closed to hospital-a": NOT_CHECKED,
        "store of hospital-c is closed to hospital-a": NOT_CHECKED,
    }


def test_a_store_that_is_no_folder_is_a_problem(world: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    broken = dataclasses.replace(world, coordinator_uri=(tmp_path / "file" / "x").as_uri())

    assert verdicts(coordinator_checks(broken))["coordinator's store"] == PROBLEM


@pytest.fixture
def hospitals(web_hospitals: WebHospitals) -> Hospitals:
    # As the pods on EKS: no role to take, each its own web identity.
    kubernetes = dataclasses.replace(web_hospitals.consortium.settings, runtime="kubernetes")
    return dataclasses.replace(web_hospitals.consortium, settings=kubernetes)


@pytest.mark.services
def test_a_hospital_has_its_own_store_and_no_other(hospitals: Hospitals) -> None:
    with hospitals.acting("hospital-b") as settings:
        found = findings(hospital_checks(settings, "hospital-b"))

    assert {finding.verdict for finding in found.values()} == {PASSED}
    assert "denied, as it must be" in found["store of hospital-a is closed to hospital-b"].found


@pytest.mark.services
def test_the_coordinator_is_denied_rows(hospitals: Hospitals) -> None:
    with hospitals.acting("coordinator") as settings:
        found = verdicts(coordinator_checks(settings))

    assert found == {
        "coordinator's store": PASSED,
        **{f"rows of {name} are closed to the coordinator": PASSED for name in NAMES},
    }


@pytest.mark.services
def test_a_hospital_is_no_coordinator_and_the_other_way_round(hospitals: Hospitals) -> None:
    """The checks can fail: as the wrong identity they find what is open, or closed."""
    with hospitals.acting("hospital-a") as settings:
        as_coordinator = findings(coordinator_checks(settings))
    with hospitals.acting("coordinator") as settings:
        as_hospital = findings(hospital_checks(settings, "hospital-a"))

    open_rows = as_coordinator["rows of hospital-a are closed to the coordinator"]
    assert open_rows.verdict == PROBLEM
    assert open_rows.found == "this process may read patients' rows at hospital-a"
    assert as_hospital["store of hospital-a"].verdict == PROBLEM
    # The coordinator may read manifests of all.
    opened = as_hospital["store of hospital-b is closed to hospital-a"]
    assert (opened.verdict, opened.found) == (PROBLEM, "hospital-a may read what is hospital-b's")


@pytest.mark.services
def test_answers_of_s3(hospitals: Hospitals) -> None:
    uri = hospitals.settings.site_uri("hospital-a")
    with hospitals.acting("hospital-a") as settings:
        access = settings.site_access("hospital-a")
        assert ask_for(uri, "records/1.parquet", access) == Answer.GIVEN
        assert ask_for(uri, "records/never.parquet", access) == Answer.ABSENT
    with hospitals.acting("hospital-b") as settings:
        assert (
            ask_for(uri, "records/1.parquet", settings.site_access("hospital-b")) == Answer.DENIED
        )
        # Where nothing may be listed, what is not there is denied as well.
        assert ask_for(f"s3://{bucket('hospital-a')}", "x", access) == Answer.DENIED


@contextmanager
def careless_s3() -> Iterator[str]:
    """An S3 that keeps no versions of deleted objects and overwrites whatever it is told not to."""

    class Careless(Handler):
        def handle_any(self) -> None:
            self.body()
            query = urlsplit(self.path).query
            if query == "versioning":
                xml = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
            elif "versions" in query:
                xml = "<ListVersionsResult></ListVersionsResult>"
            elif "uploads" in query:
                xml = "<ListMultipartUploadsResult></ListMultipartUploadsResult>"
            else:
                xml = ""
            version = {"x-amz-version-id": "1", "Date": "Mon, 01 Jan 2026 00:00:00 GMT"}
            self.answer(200, xml.encode(), version)

    with serving(Careless) as url:
        yield url


def test_a_server_without_conditional_writes_is_a_problem(
    world: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with careless_s3() as url:
        for name, value in {
            "AWS_ENDPOINT_URL_S3": url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "hunter2",
            "AWS_REGION": "eu-central-1",
        }.items():
            monkeypatch.setenv(name, value)
        careless = dataclasses.replace(world, coordinator_uri="s3://careless")
        found = findings(coordinator_checks(careless))["coordinator's store"]

    assert found.verdict == PROBLEM
    assert "takes no notice of If-None-Match" in found.found
    assert "hunter2" not in json.dumps(dataclasses.asdict(found))

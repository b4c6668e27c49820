from __future__ import annotations

import dataclasses
from importlib import metadata
from pathlib import Path

import pytest

from fl_assets.doctor import machine
from fl_assets.doctor.checks import Verdict
from fl_assets.doctor.machine import machine_checks
from fl_assets.settings import Settings
from fl_assets_tests.doctor.findings import findings, verdicts
from fl_assets_tests.world import settings_of


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.chdir(tmp_path)
    return settings_of(tmp_path)


def test_packages_are_compared_with_the_lock(settings: Settings) -> None:
    lock = Path("requirements.lock")
    pydantic = metadata.version("pydantic")

    lock.write_text(f"# comment\npydantic=={pydantic}\n")
    assert findings(machine_checks(settings))["packages"].verdict == Verdict.PASSED

    lock.write_text(f"pydantic=={pydantic}\nnumpy==0.1\nnever-published==3\n")
    found = findings(machine_checks(settings))["packages"]
    assert found.verdict == Verdict.PROBLEM
    assert f"numpy is {metadata.version('numpy')} instead of 0.1" in found.found
    assert "never-published 3 is missing" in found.found


def test_a_build_of_torch_for_cpus_is_the_version_of_the_lock(settings: Settings) -> None:
    Path("requirements.lock").write_text(f"torch=={metadata.version('torch').partition('+')[0]}\n")

    assert verdicts(machine_checks(settings))["packages"] == Verdict.PASSED


def test_without_a_lock_packages_are_not_checked(settings: Settings) -> None:
    assert verdicts(machine_checks(settings))["packages"] == Verdict.NOT_CHECKED


def test_a_data_folder_that_is_not_there_yet_is_looked_at_above_it(settings: Settings) -> None:
    home = settings.home / "a" / "b"
    looked = dataclasses.replace(settings, home=home)

    assert verdicts(machine_checks(looked))["data folder"] == Verdict.PASSED
    assert not home.exists()


def test_a_data_folder_that_cannot_be_made_is_a_problem(settings: Settings) -> None:
    (settings.home / "file").write_text("")
    looked = dataclasses.replace(settings, home=settings.home / "file" / "home")

    found = findings(machine_checks(looked))["data folder"]

    assert found.verdict == Verdict.PROBLEM
    assert "cannot be written to" in found.found


def test_a_full_disk_is_a_problem(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "FREE_GIB", 1e9)

    found = findings(machine_checks(settings))["data folder"]

    assert found.verdict == Verdict.PROBLEM
    assert "GiB are free" in found.found


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        ('openjdk version "17.0.9" 2023-10-17', Verdict.PASSED),
        ('java version "1.8.0_392"', Verdict.PASSED),
        ('openjdk version "21.0.1"', Verdict.PROBLEM),
        ("no such thing", Verdict.PROBLEM),
    ],
)
def test_java_of_a_version_that_spark_knows(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: str, verdict: Verdict
) -> None:
    pytest.importorskip("pyspark")
    java = tmp_path / "java"
    java.write_text(f"#!/bin/sh\necho '{said}' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    spark = dataclasses.replace(settings, intake_engine="spark")

    assert verdicts(machine_checks(spark))["Spark"] == verdict


def test_no_java_is_a_problem(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyspark")
    monkeypatch.setenv("PATH", str(settings.home))
    spark = dataclasses.replace(settings, intake_engine="spark")

    assert "no `java`" in findings(machine_checks(spark))["Spark"].found

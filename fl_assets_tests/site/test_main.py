"""The hospital's own process, as a pod would start it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from fl_assets.settings import Settings
from fl_assets.site import partitions
from fl_assets.site.profile import load_profile
from fl_assets.site.tasks import wire
from fl_assets.site.tasks.base import Request
from fl_assets.site.tasks.data import BuildProfile
from fl_assets_tests.site.unforeseen import QUOTED, unforeseen

TASK = "0123456789abcdef" * 2


def call(world: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "FLA_HOME": str(world.home),
        "FLA_TERMINATION_LOG": str(world.home / "last-words"),
        "FLA_CONSORTIUM": str(world.consortium_file),
        "FLA_RECIPES": str(world.recipes),
    }
    command = [sys.executable, "-m", "fl_assets.site", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_the_chain_gives_what_the_assets_give(world: Settings) -> None:
    before = partitions.load_manifest(world.site_store("hospital-a"))
    records = json.loads(call(world, "records", "hospital-a").stdout)
    parts = json.loads(call(world, "partitions", "hospital-a").stdout)
    profile = json.loads(call(world, "profile", "hospital-a", "--asked-by", "a person").stdout)

    assert records["version"] == before.records
    assert parts["version"] == before.version
    assert profile["partitions"] == before.version
    egress = json.loads(call(world, "egress", "hospital-a").stdout)
    left = {(e["kind"], e["run"]): e["messages"] for e in egress["by_day_kind_and_run"]}
    # The manifests were published when the world was built, and are the same again.
    assert left == {
        ("records", "intake"): 2,
        ("partitions", "intake"): 1,
        ("profile", "world"): 1,
        ("profile", "a person"): 1,
    }
    assert egress["messages"] == 5


@pytest.mark.faults
def test_verify_fails_for_a_changed_file(world: Settings) -> None:
    assert call(world, "verify", "hospital-b").returncode == 0
    store = world.site_store("hospital-b")
    store.put(partitions.load_manifest(store).files["test"].key, b"something else")

    result = call(world, "verify", "hospital-b")

    assert result.returncode == 1
    assert "test.parquet" in json.loads(result.stdout)["problems"][0]


def test_an_unknown_hospital_is_one_line(world: Settings) -> None:
    result = call(world, "records", "hospital-z")
    assert result.returncode == 1
    assert "no hospital is named 'hospital-z'" in result.stderr
    assert "Traceback" not in result.stderr


def ask(world: Settings, hospital: str, request: Request[Any]) -> subprocess.CompletedProcess[str]:
    key = wire.request_key(hospital, TASK)
    world.coordinator_store().put(key, request.model_dump_json().encode())
    return call(world, "answer", hospital, TASK)


def test_a_task_is_answered_in_the_coordinators_store(world: Settings) -> None:
    request = BuildProfile(run="a run")
    done = ask(world, "hospital-a", request)
    assert (done.returncode, done.stdout) == (0, "")
    sent = world.coordinator_store().get(wire.answer_key("hospital-a", TASK))
    assert wire.parse_reply(request, sent) == load_profile(world.site_store("hospital-a"))
    assert not (world.home / "last-words").exists()


def test_last_words_are_an_error_of_ours_in_full_and_any_other_by_its_type(world: Settings) -> None:
    store, words = world.site_store("hospital-a"), world.home / "last-words"
    unforeseen(store)
    broken = ask(world, "hospital-a", BuildProfile(run="a run"))
    assert broken.returncode == 1
    assert words.read_text().startswith("unforeseen KeyError")
    assert QUOTED not in words.read_text()
    assert not world.coordinator_store().exists(wire.answer_key("hospital-a", TASK))

    store.delete("partitions/manifest.json")
    assert ask(world, "hospital-a", BuildProfile(run="a run")).returncode == 1
    assert words.read_text().startswith("ObjectNotFoundError: ")
    sent = world.coordinator_store().get(wire.answer_key("hospital-a", TASK))
    assert json.loads(sent)["failure"]["error"] == "ObjectNotFoundError"

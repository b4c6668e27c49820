"""The hospital's own process, as a pod would start it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from fl_assets.settings import Settings
from fl_assets.site import partitions


def call(world: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "FLA_HOME": str(world.home),
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

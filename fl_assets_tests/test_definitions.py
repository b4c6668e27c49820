"""The definitions as a whole: they load fast, and the graph is what the snapshot says."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
import yaml
from syrupy.assertion import SnapshotAssertion
from syrupy.extensions.json import JSONSnapshotExtension

from fl_assets.config import ConfigFileError
from fl_assets.definitions import build
from fl_assets.settings import Settings
from fl_assets_tests.conftest import REPOSITORY

DEMO_ONLY = {"raw_dataset", "validated_dataset", "hospital_uploads", "centralized_baseline"}
HEAVY = ["boto3", "flwr", "matplotlib", "mlflow", "optuna", "pandas", "pandera", "sklearn", "torch"]


def describe(definitions: dg.Definitions) -> dict[str, object]:
    """The graph in words: what an accidental change would change."""
    graph = definitions.resolve_asset_graph()
    return {
        key.to_user_string(): {
            "group": node.group_name,
            "parents": sorted(parent.to_user_string() for parent in node.parent_keys),
            "partitions": type(node.partitions_def).__name__ if node.partitions_def else None,
            "kinds": sorted(node.kinds),
            "owners": sorted(node.owners),
            "demo_only": node.tags.get("fl/demo_only") == "true",
            "checks": {
                check.name: graph.get_check_spec(check).blocking
                for check in sorted(graph.get_check_keys_for_assets({key}), key=lambda c: c.name)
            },
        }
        for key in sorted(graph.get_all_asset_keys())
        for node in [graph.get(key)]
    }


def test_the_asset_graph_is_the_recorded_one(world: Settings, snapshot: SnapshotAssertion) -> None:
    """After a change that is meant: `pytest --snapshot-update`, and read the difference."""
    assert describe(build(world)) == snapshot(extension_class=JSONSnapshotExtension)


def test_the_definitions_are_loadable_and_every_job_resolves(world: Settings) -> None:
    definitions = build(world)
    dg.Definitions.validate_loadable(definitions)
    for job in ("refresh_hospital", "train_and_promote"):
        assert definitions.resolve_job_def(job).partitions_def is not None


def test_a_real_consortium_has_no_demo_only_asset(world: Settings) -> None:
    config = yaml.safe_load(world.consortium_file.read_text())
    world.consortium_file.write_text(yaml.safe_dump(config | {"simulated": False}))

    definitions = build(dataclasses.replace(world))

    dg.Definitions.validate_loadable(definitions)
    keys = definitions.resolve_asset_graph().get_all_asset_keys()
    assets = {key.to_user_string() for key in keys}
    assert not assets & DEMO_ONLY
    assert {"hospital_records", "federated_model", "champion_model"} <= assets


def test_a_missing_consortium_file_is_a_clear_error(world: Settings) -> None:
    world.consortium_file.unlink()
    with pytest.raises(ConfigFileError, match=r"consortium\.yaml cannot be read"):
        build(dataclasses.replace(world))


@pytest.mark.parametrize("hospitals", [None, 100], ids=["shipped", "a hundred hospitals"])
def test_loading_takes_none_of_the_heavy_imports_and_under_three_seconds(
    hospitals: int | None, tmp_path: Path
) -> None:
    """In a new process, as every run and every code server pays it; CPU time, which is steadier."""
    file = REPOSITORY / "consortium.yaml"
    if hospitals is not None:
        config = yaml.safe_load(file.read_text()) | {"hospitals": hospitals}
        file = tmp_path / "consortium.yaml"
        file.write_text(yaml.safe_dump(config))
    code = (
        "import json, sys, time\n"
        "from fl_assets.definitions import defs\n"
        "import dagster as dg\n"
        "loaded = defs()\n"
        "dg.Definitions.validate_loadable(loaded)\n"
        f"heavy = [name for name in {HEAVY} if name in sys.modules]\n"
        "print(json.dumps([time.process_time(), heavy]))\n"
    )
    answer = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=REPOSITORY,
        env=os.environ | {"FLA_CONSORTIUM": str(file)},
        capture_output=True,
        text=True,
        check=True,
    )
    seconds, heavy = json.loads(answer.stdout.splitlines()[-1])
    assert heavy == []
    assert seconds < 3

"""The asset ``egress_log``."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from fl_assets.defs.egress import egress_assets
from fl_assets.defs.partitions import HOSPITALS
from fl_assets.defs.resources import Platform
from fl_assets.settings import Settings
from fl_assets.site.egress import EgressLog


@pytest.fixture
def materialise(world: Settings, tmp_path: Path):
    """Materialise the asset of hospital-a in an instance of the test's own."""

    def run() -> tuple[dg.AssetMaterialization, dg.AssetCheckEvaluation]:
        with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
            instance.add_dynamic_partitions(str(HOSPITALS.name), ["hospital-a"])
            result = dg.materialize(
                egress_assets(),
                partition_key="hospital-a",
                instance=instance,
                resources={"platform": Platform.of(world)},
            )
        (shown,) = result.asset_materializations_for_node("egress_log")
        (check,) = result.get_asset_check_evaluations()
        return shown, check

    return run


def test_it_shows_what_left_and_has_a_version_of_its_own(materialise, world: Settings) -> None:
    before, _ = materialise()
    again, _ = materialise()
    EgressLog(world.site_store("hospital-a")).release("update", "run-7", b"x" * 500, "round 1")
    after, check = materialise()

    assert after.metadata["messages"].value == before.metadata["messages"].value + 1
    assert after.metadata["bytes"].value == before.metadata["bytes"].value + 500
    assert "run-7" in after.metadata["by_day_kind_and_run"].value
    assert "| update | 500 |" in after.metadata["bytes_by_kind"].value
    assert "data:image/png;base64" in after.metadata["bytes_per_day"].value
    versions = [shown.tags["dagster/data_version"] for shown in (before, again, after)]
    assert versions[0] == versions[1] != versions[2]
    assert check.passed


def test_a_missing_entry_fails_the_check(materialise, world: Settings) -> None:
    store = world.site_store("hospital-a")
    store.delete(store.list("egress/")[0].key)
    _, check = materialise()
    assert not check.passed
    assert "are missing before" in str(check.metadata["damages"].value)

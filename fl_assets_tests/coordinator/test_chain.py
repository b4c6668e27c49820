"""What a hospital made without Dagster is found, and what automation is about to make is not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fl_assets.coordinator.chain import CHAIN, Behind, Seen, current_version, first_behind
from fl_assets.settings import Settings
from fl_assets.storage import FolderStore, SiteStore

NOW = datetime(2027, 1, 1, tzinfo=UTC)
OLD, JUST_NOW = NOW - timedelta(minutes=11), NOW - timedelta(minutes=9)


@pytest.fixture
def store(world: Settings) -> SiteStore:
    return world.site_store("hospital-a")


def look(store: SiteStore, seen: dict[str, Seen], blocked: bool = False) -> Behind | None:
    return first_behind(store, seen.__getitem__, blocked, NOW)


def known(store: SiteStore, when: datetime, other: str | None = None) -> dict[str, Seen]:
    return {
        asset: Seen("another" if asset == other else current_version(store, asset), asset, when)
        for asset in CHAIN
    }


@pytest.mark.parametrize("asset", CHAIN)
def test_the_asset_that_dagster_does_not_know_is_found(store: SiteStore, asset: str) -> None:
    assert look(store, known(store, OLD)) is None
    found = look(store, known(store, OLD, other=asset))
    assert found == Behind(asset, str(current_version(store, asset)), asset)


def test_what_automation_may_still_follow_is_left_to_it(store: SiteStore) -> None:
    assert look(store, known(store, JUST_NOW, other="hospital_partitions")) is None
    found = look(store, known(store, JUST_NOW, other="hospital_records"))
    assert found is not None


def test_where_dagster_knows_nothing_the_records_are_first_and_nothing_else(
    store: SiteStore,
) -> None:
    nothing = dict.fromkeys(CHAIN, Seen())
    found = look(store, nothing)
    assert found is not None
    assert found.asset == "hospital_records"
    assert look(store, nothing, blocked=True) is None


def test_a_hospital_that_has_nothing_is_not_behind(store: SiteStore, tmp_path: Path) -> None:
    empty = FolderStore(tmp_path / "empty")
    assert look(empty, known(store, OLD)) is None

"""The assets of a hospital whose profile is noised."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import dagster as dg
import pytest
import yaml

from fl_assets.definitions import build
from fl_assets.defs.partitions import sync_hospitals
from fl_assets.privacy.ledger import Ledger
from fl_assets.privacy.ledger_entries import Charge
from fl_assets.settings import Settings
from fl_assets.site.profile import build_profile, load_profile, noised_profile
from fl_assets_tests.world import dagster_instance


def with_noise(world: Settings, epsilon: float, cap: float = 3.0) -> Settings:
    config = yaml.safe_load(world.consortium_file.read_text())
    config |= {"profile_epsilon": epsilon, "privacy_budget": {"epsilon": cap}}
    world.consortium_file.write_text(yaml.safe_dump(config))
    return dataclasses.replace(world)


def materialise(
    settings: Settings, home: Path, *assets: str, partition: str | None = None
) -> dg.ExecuteInProcessResult:
    definitions = build(settings)
    with dagster_instance(home) as instance:
        sync_hospitals(instance, settings.consortium)
        job = definitions.resolve_implicit_global_asset_job_def()
        return job.execute_in_process(
            instance=instance,
            asset_selection=[dg.AssetKey(asset) for asset in assets],
            partition_key=partition,
            raise_on_error=False,
        )


def test_a_noised_profile_is_charged_once_and_says_so(world: Settings, tmp_path: Path) -> None:
    settings = with_noise(world, 1.0)
    store = settings.site_store("hospital-a")
    exact = load_profile(store)
    assert exact.noised is None

    result = materialise(settings, tmp_path, "hospital_profile", partition="hospital-a")

    assert result.success
    noised = load_profile(store)
    assert noised.noised is not None
    assert noised.noised.epsilon == 1.0
    assert (noised.rows, noised.partitions) == (exact.rows, exact.partitions)
    (event,) = result.asset_materializations_for_node("hospital_profile")
    assert event.metadata["training_rows"].value == noised.rows
    assert "| epsilon | 1.0 |" in str(event.metadata["noised"].value)
    assert {"class_balance", "distributions"} <= event.metadata.keys()
    ledger = Ledger(store, "hospital-a")
    (entry,) = ledger.entries()
    assert isinstance(entry.act, Charge)
    assert entry.act.run == result.run_id

    assert materialise(settings, tmp_path, "hospital_profile", partition="hospital-a").success
    assert load_profile(store) == noised
    assert len(ledger.entries()) == 1


def test_a_profile_beyond_the_cap_fails_with_the_arithmetic(
    world: Settings, tmp_path: Path
) -> None:
    settings = with_noise(world, 1.0, cap=0.8)
    before = load_profile(settings.site_store("hospital-a"))

    result = materialise(settings, tmp_path, "hospital_profile", partition="hospital-a")

    assert not result.success
    (failure,) = (e for e in result.all_events if e.event_type_value == "STEP_FAILURE")
    told = failure.step_failure_data.user_failure_data
    assert told is not None
    assert "BudgetExceededError: hospital-a: run " in str(told.description)
    assert "asks 1.00, lifetime would be 1.00 of 0.80, 0.80 left at delta 1e-05" in str(
        told.description
    )
    assert load_profile(settings.site_store("hospital-a")) == before


@pytest.mark.parametrize("noised", [False, True])
def test_noised_moments_are_not_compared_with_a_pooled_fit(
    noised: bool, world: Settings, tmp_path: Path
) -> None:
    settings = with_noise(world, 20.0, cap=50.0) if noised else world
    consortium, cohort = settings.consortium, settings.cohort
    for name in consortium.hospital_names:
        store, terms = settings.site_store(name), noised_profile(consortium, name)
        build_profile(store, cohort, consortium.minimum_cell, "run", terms)
    result = materialise(settings, tmp_path, "preprocessor")
    assert result.success
    checks = [evaluation.check_name for evaluation in result.get_asset_check_evaluations()]
    assert checks == ([] if noised else ["equals_pooled_fit"])

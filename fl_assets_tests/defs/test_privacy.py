"""The asset ``privacy_ledger``."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from fl_assets.defs.partitions import HOSPITALS
from fl_assets.defs.privacy import privacy_assets
from fl_assets.defs.resources import Platform
from fl_assets.federation.witnesses import load_witness
from fl_assets.privacy.events import MechanismEvent
from fl_assets.privacy.ledger import BudgetExceededError, Ledger
from fl_assets.privacy.ledger_chain import entry_key
from fl_assets.settings import Settings

EVENT = MechanismEvent(noise_multiplier=3.0)


@pytest.fixture
def materialise(world: Settings, tmp_path: Path):
    """Materialise the asset of hospital-a in an instance of the test's own."""
    ledger = Ledger(world.site_store("hospital-a"), "hospital-a")
    budget = world.consortium.budget("hospital-a")
    ledger.reserve("r1", [EVENT], budget, 1.5, "training")
    with pytest.raises(BudgetExceededError):
        ledger.reserve("r2", [EVENT] * 9, budget, 5.0, "training")

    def run() -> dg.ExecuteInProcessResult:
        with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
            instance.add_dynamic_partitions(str(HOSPITALS.name), ["hospital-a"])
            return dg.materialize(
                privacy_assets(world),
                partition_key="hospital-a",
                instance=instance,
                resources={"platform": Platform.of(world)},
                raise_on_error=False,
            )

    return run


def test_it_shows_the_budget_and_keeps_what_it_saw(materialise, world: Settings) -> None:
    result = materialise()

    assert result.success
    (shown,) = result.asset_materializations_for_node("privacy_ledger")
    assert shown.metadata["epsilon_cap"].value == 3.0
    assert 1.0 < shown.metadata["epsilon_spent"].value < 2.0
    assert shown.metadata["refused_runs"].value == 1
    assert "lifetime would be" in shown.metadata["entries"].value
    assert "data:image/png;base64" in shown.metadata["budget_over_time"].value
    assert [(c.check_name, c.passed) for c in result.get_asset_check_evaluations()] == [
        ("ledger_whole", True)
    ]
    head = Ledger(world.site_store("hospital-a"), "hospital-a").head()
    assert load_witness(world.coordinator_store(), "hospital-a") == head


def test_a_damaged_ledger_fails_the_check_and_the_asset(materialise, world: Settings) -> None:
    folder = Path(world.site_store("hospital-a").uri.removeprefix("file://"))
    (folder / entry_key(2)).unlink()

    result = materialise()

    assert not result.success
    (check,) = result.get_asset_check_evaluations()
    assert (check.check_name, check.passed, check.blocking) == ("ledger_whole", False, True)
    assert "2 entries, 1 are there" in str(check.description)
    (failed,) = result.filter_events(lambda e: e.is_step_failure)
    assert "LedgerDamagedError: hospital-a: the privacy ledger is damaged" in str(
        failed.step_failure_data.user_failure_data.description
    )
    assert not failed.step_failure_data.error_display_string.startswith("dagster._core.errors")

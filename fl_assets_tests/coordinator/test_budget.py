"""The view of the ledgers: figures and words that agree with what was charged."""

from __future__ import annotations

from pathlib import Path

import pytest

from fl_assets.consortium import PrivacyBudget, UnknownHospitalError
from fl_assets.coordinator.budget import (
    budget_plot,
    budget_table,
    hospital_budget,
    ledger_lines,
    line_table,
    open_ledger,
)
from fl_assets.coordinator.witnesses import save_witness
from fl_assets.privacy.accounting import epsilon, noise_multiplier
from fl_assets.privacy.events import MechanismEvent
from fl_assets.privacy.ledger import BudgetExceededError, Ledger, UnprotectedRunError
from fl_assets.privacy.ledger_chain import ANCHOR, LedgerDamagedError, entry_key
from fl_assets.settings import Settings
from fl_assets.storage import FolderStore

BUDGET = PrivacyBudget(epsilon=1.75)
ONE = MechanismEvent(noise_multiplier=noise_multiplier(1.0, 1e-5, 1.0, 60), steps=60)
HALF = ONE.model_copy(update={"steps": 30})
PROFILE = MechanismEvent(noise_multiplier=20.0)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """One entry of every kind and more."""
    found = Ledger(FolderStore(tmp_path / "hospital"), "hospital-a")
    found.unprotected("free", PrivacyBudget(unprotected_runs=True))
    found.reserve("r1", [ONE], BUDGET, 1.0, "training, 60 rounds")
    found.settle("r1", [HALF])
    found.charge("profile", [PROFILE], BUDGET, 0.2, "a noised profile")
    found.reserve("r2", [ONE], BUDGET, 1.0, "training, 60 rounds")
    found.forfeit("r2", "its answers are gone")
    found.reserve("r3", [HALF], BUDGET, 0.7, "training, 30 rounds")
    with pytest.raises(BudgetExceededError):
        found.reserve("r4", [ONE], BUDGET, 1.0, "training, 60 rounds")
    with pytest.raises(UnprotectedRunError):
        found.unprotected("free 2", BUDGET)
    return found


def test_figures_are_those_of_everything_charged(ledger: Ledger) -> None:
    found = hospital_budget(ledger, "hospital-a", BUDGET)
    charged = [HALF, PROFILE, ONE, HALF]
    assert found.spent == pytest.approx(epsilon(charged, 1e-5), rel=1e-12)
    assert found.cap == 1.75
    fits = MechanismEvent(noise_multiplier=noise_multiplier(found.left, 1e-5, 1.0, 1))
    assert epsilon([*charged, fits], 1e-5) == pytest.approx(1.75, rel=1e-3)
    assert found.open_runs == ("r3",)
    assert (found.unprotected_runs, found.refused_runs, found.entries) == (1, 2, 9)
    assert found.head == ledger.head()


def test_every_entry_in_words_with_what_was_spent_after_it(ledger: Ledger) -> None:
    lines = ledger_lines(ledger.entries(), 1e-5)
    assert [(line.sequence, line.kind, line.run) for line in lines] == [
        (1, "unprotected", "free"),
        (2, "reserve", "r1"),
        (3, "settle", "r1"),
        (4, "charge", "profile"),
        (5, "reserve", "r2"),
        (6, "forfeit", "r2"),
        (7, "reserve", "r3"),
        (8, "refuse", "r4"),
        (9, "refuse", "free 2"),
    ]
    charged = [HALF, PROFILE, ONE, HALF]
    expected = [
        [], [ONE], charged[:1], charged[:2], charged[:3], charged[:3], charged,
        [*charged, ONE], charged,
    ]  # fmt: skip
    assert [line.lifetime for line in lines] == pytest.approx(
        [epsilon(events, 1e-5) for events in expected], rel=1e-9
    )
    assert [line.asked for line in lines] == [None, 1, None, 0.2, 1, None, 0.7, 1, None]
    words = [line.what for line in lines]
    assert words[2] == "30 steps were released"
    assert words[3] == "a noised profile"
    assert words[5] == "all is spent: its answers are gone"
    assert words[7].startswith("asks 1.00, lifetime would be 1.8")
    assert words[7].endswith("left at delta 1e-05")


def test_tables_and_plot(ledger: Ledger) -> None:
    found = hospital_budget(ledger, "hospital-a", BUDGET)
    lines = ledger_lines(ledger.entries(), 1e-5)
    (row,) = budget_table([found]).rows
    assert row[0] == "hospital-a"
    assert row[1] == "1.75"
    assert row[-1] == "r3"
    assert [entry[0] for entry in line_table("hospital-a", lines).rows] == list(range(1, 10))
    assert budget_plot(found, lines).png[:4] == b"\x89PNG"


def test_an_empty_ledger(world: Settings) -> None:
    ledger = open_ledger(world, "hospital-b")
    found = hospital_budget(ledger, "hospital-b", world.consortium.budget("hospital-b"))
    assert (found.spent, found.entries, found.head) == (0.0, 0, None)
    assert found.left == pytest.approx(3.0, rel=1e-3)
    assert ledger_lines(ledger.entries(), 1e-5) == []


def test_what_the_coordinator_saw_must_be_there(world: Settings) -> None:
    store = world.site_store("hospital-a")
    Ledger(store, "hospital-a").reserve("r1", [ONE], BUDGET, 1.0, "training")
    head = Ledger(store, "hospital-a").head()
    save_witness(world.coordinator_store(), "hospital-a", head)
    assert open_ledger(world, "hospital-a").head() == head

    for key in (entry_key(1), ANCHOR):
        (Path(store.uri.removeprefix("file://")) / key).unlink()
    assert Ledger(store, "hospital-a").entries() == ()
    with pytest.raises(LedgerDamagedError, match="the coordinator saw 1 entries, 0 are there"):
        open_ledger(world, "hospital-a").head()


def test_no_such_hospital(world: Settings) -> None:
    with pytest.raises(UnknownHospitalError):
        open_ledger(world, "hospital-z")

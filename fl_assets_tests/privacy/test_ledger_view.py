"""A ledger for people: figures and words that agree with what was charged."""

from __future__ import annotations

from pathlib import Path

import pytest

from fl_assets.privacy.accounting import epsilon, noise_multiplier
from fl_assets.privacy.events import MechanismEvent
from fl_assets.privacy.ledger import Ledger
from fl_assets.privacy.ledger_view import (
    LedgerView,
    hospital_budget,
    ledger_lines,
    view_ledger,
)
from fl_assets.storage import FolderStore
from fl_assets_tests.privacy.ledgers import HALF, ONE, PROFILE, SMALL, of_every_kind


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return of_every_kind(FolderStore(tmp_path / "hospital"))


def test_figures_are_those_of_everything_charged(ledger: Ledger) -> None:
    found = hospital_budget(ledger, "hospital-a", SMALL)
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


def test_a_view_is_the_same_after_a_journey_as_json(ledger: Ledger) -> None:
    view = view_ledger(ledger, "hospital-a", SMALL)
    assert view.budget == hospital_budget(ledger, "hospital-a", SMALL)
    assert list(view.lines) == ledger_lines(ledger.entries(), 1e-5)
    assert LedgerView.model_validate_json(view.model_dump_json()) == view

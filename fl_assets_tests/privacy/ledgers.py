"""Ledgers as the tests make them."""

from __future__ import annotations

import pytest

from fl_assets.consortium import PrivacyBudget
from fl_assets.privacy.accounting import noise_multiplier
from fl_assets.privacy.events import MechanismEvent
from fl_assets.privacy.ledger import BudgetExceededError, Ledger, UnprotectedRunError
from fl_assets.privacy.ledger_entries import LedgerHead
from fl_assets.storage import SiteStore

DELTA = 1e-5
BUDGET = PrivacyBudget(epsilon=3.0, delta=DELTA)
STEPS = 60


def gaussian(asked: float, steps: int = STEPS) -> MechanismEvent:
    """Steps without sampling that cost so much epsilon in all."""
    noise = noise_multiplier(asked, DELTA, 1.0, steps)
    return MechanismEvent(noise_multiplier=noise, steps=steps)


ONE = gaussian(1.0)


def part(event: MechanismEvent, steps: int) -> MechanismEvent:
    return event.model_copy(update={"steps": steps})


def reserve(ledger: Ledger, run: str, event: MechanismEvent = ONE, asked: float = 1.0) -> None:
    ledger.reserve(run, [event], BUDGET, asked, "training")


def kinds(ledger: Ledger) -> list[str]:
    return [entry.act.kind for entry in ledger.entries()]


def fill(store: SiteStore, runs: int = 3) -> LedgerHead:
    """Two entries per run, going on with what is there; returns the head."""
    ledger = Ledger(store, "hospital-a")
    event = gaussian(0.2)
    for run in (f"r{number}" for number in range(runs)):
        known = ledger.account(run)
        if known is None or not known.closed:
            reserve(ledger, run, event, 0.2)
            ledger.settle(run, [part(event, 10)])
    head = ledger.head()
    assert head is not None
    return head


SMALL = PrivacyBudget(epsilon=1.75, delta=DELTA)
HALF = part(ONE, 30)
PROFILE = MechanismEvent(noise_multiplier=20.0)


def of_every_kind(store: SiteStore) -> Ledger:
    """A ledger under SMALL with an entry of every kind and more; r3 is open."""
    found = Ledger(store, "hospital-a")
    found.unprotected("free", PrivacyBudget(unprotected_runs=True))
    found.reserve("r1", [ONE], SMALL, 1.0, "training, 60 rounds")
    found.settle("r1", [HALF])
    found.charge("profile", [PROFILE], SMALL, 0.2, "a noised profile")
    found.reserve("r2", [ONE], SMALL, 1.0, "training, 60 rounds")
    found.forfeit("r2", "its answers are gone")
    found.reserve("r3", [HALF], SMALL, 0.7, "training, 30 rounds")
    with pytest.raises(BudgetExceededError):
        found.reserve("r4", [ONE], SMALL, 1.0, "training, 60 rounds")
    with pytest.raises(UnprotectedRunError):
        found.unprotected("free 2", SMALL)
    return found

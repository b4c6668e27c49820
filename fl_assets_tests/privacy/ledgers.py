"""Ledgers as the tests make them."""

from __future__ import annotations

from fl_assets.consortium import PrivacyBudget
from fl_assets.privacy.accounting import noise_multiplier
from fl_assets.privacy.events import MechanismEvent
from fl_assets.privacy.ledger import Ledger
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

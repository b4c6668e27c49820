"""What a ledger says, for people: where the budget stands, and every entry in words."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from fl_assets.config import StrictModel
from fl_assets.consortium import PrivacyBudget
from fl_assets.privacy.events import MechanismEvent
from fl_assets.privacy.ledger import Ledger, epsilon_left, epsilon_of
from fl_assets.privacy.ledger_balance import Balance
from fl_assets.privacy.ledger_entries import (
    Act,
    Charge,
    Forfeit,
    LedgerEntry,
    LedgerHead,
    Refusal,
    Reservation,
    Settlement,
    UnprotectedRun,
)


class HospitalBudget(StrictModel):
    """A hospital's budget and what its ledger says of it; epsilons are at ``delta``.

    Attributes:
        hospital: name.
        cap, delta: of the budget.
        spent: epsilon of everything ever charged, open reservations in full.
        left: the most that one more run could ask for.
        open_runs: whose reservations are neither settled nor forfeited.
        unprotected_runs: without privacy; ``spent`` does not hold for them.
        refused_runs: that did not fit, or asked for no privacy where it is asked for.
        entries: in the ledger.
        head: the newest one.
    """

    hospital: str
    cap: float
    delta: float
    spent: float
    left: float
    open_runs: tuple[str, ...]
    unprotected_runs: int
    refused_runs: int
    entries: int
    head: LedgerHead | None


class LedgerLine(StrictModel):
    """One entry for people.

    Attributes:
        sequence, time, kind, run: of the entry.
        asked: epsilon, where the entry has one.
        lifetime: epsilon of everything charged until then; of a refused request, what it would have
            been with it.
        what: in words.
    """

    sequence: int
    time: datetime
    kind: str
    run: str
    asked: float | None
    lifetime: float
    what: str


class LedgerView(StrictModel):
    """A whole ledger.

    Attributes:
        budget: what it adds up to.
        lines: its entries, oldest first.
    """

    budget: HospitalBudget
    lines: tuple[LedgerLine, ...]


def view_ledger(ledger: Ledger, hospital: str, budget: PrivacyBudget) -> LedgerView:
    """Return what a ledger says.

    Raises:
        LedgerDamagedError: it is not whole.
    """
    found = hospital_budget(ledger, hospital, budget)
    lines = ledger_lines(ledger.entries(), found.delta)
    return LedgerView(budget=found, lines=tuple(lines))


def hospital_budget(ledger: Ledger, hospital: str, budget: PrivacyBudget) -> HospitalBudget:
    """Return where a budget stands.

    Raises:
        LedgerDamagedError: the ledger is not whole.
    """
    entries, balance = ledger.entries(), ledger.balance()
    return HospitalBudget(
        hospital=hospital,
        cap=budget.epsilon,
        delta=budget.delta,
        spent=epsilon_of(balance.spent, budget.delta),
        left=epsilon_left(balance.spent, budget),
        open_runs=tuple(balance.open_runs),
        unprotected_runs=len(balance.unprotected),
        refused_runs=len(balance.refusals),
        entries=len(entries),
        head=ledger.head(),
    )


def ledger_lines(entries: Sequence[LedgerEntry], delta: float) -> list[LedgerLine]:
    """Return the entries with what had been spent after each."""
    balance, lines = Balance(), []
    for entry in entries:
        balance.apply(entry.act)
        asked, lifetime, what = _in_words(entry.act)
        lines.append(
            LedgerLine(
                sequence=entry.sequence,
                time=entry.time,
                kind=entry.act.kind,
                run=entry.act.run,
                asked=asked,
                lifetime=epsilon_of(balance.spent, delta) if lifetime is None else lifetime,
                what=what,
            )
        )
    return lines


def _in_words(act: Act) -> tuple[float | None, float | None, str]:
    """Epsilon asked for, lifetime where the entry says it itself, and words."""
    match act:
        case Reservation() | Charge():
            return act.epsilon, None, act.what
        case Settlement(events=events):
            return None, None, f"{_steps(events)} steps were released"
        case Forfeit(reason=reason):
            return None, None, f"all is spent: {reason}"
        case Refusal(arithmetic=found, reason=reason):
            return (None, None, reason) if found is None else (found.asked, found.lifetime, reason)
        case UnprotectedRun():
            return None, None, "no privacy"


def _steps(events: Sequence[MechanismEvent]) -> int:
    return sum(event.steps for event in events)

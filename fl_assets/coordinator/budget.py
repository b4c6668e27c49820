"""Where the hospitals' privacy budgets stand: a read-only view of their ledgers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from fl_assets.config import StrictModel
from fl_assets.consortium import PrivacyBudget
from fl_assets.coordinator.witnesses import load_witness
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
    rounded_down,
    rounded_up,
)
from fl_assets.reporting.html import Cell, Picture, Table
from fl_assets.settings import Settings


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


def open_ledger(settings: Settings, hospital: str) -> Ledger:
    """Return a hospital's ledger, which must hold what the coordinator saw of it.

    Raises:
        UnknownHospitalError: there is no such hospital.
    """
    settings.whole_consortium.hospital(hospital)
    witness = load_witness(settings.coordinator_store(), hospital)
    store = settings.site_store(hospital)
    return Ledger(store, hospital, [] if witness is None else [witness])


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


def budget_table(budgets: Sequence[HospitalBudget]) -> Table:
    """Return a row per hospital."""
    columns = ["hospital", "cap", "spent", "left", "delta", "entries", "unprotected", "refused"]
    return Table(
        "Privacy budgets: epsilon over the life of the data; left is the most that one more run "
        "may ask for, and with what is spent composes to the cap",
        [*columns, "open runs"],
        [
            [
                b.hospital,
                f"{b.cap:.2f}",
                rounded_up(b.spent),
                rounded_down(b.left),
                f"{b.delta:g}",
                b.entries,
                b.unprotected_runs,
                b.refused_runs,
                ", ".join(b.open_runs) or None,
            ]
            for b in budgets
        ],
    )


def line_table(hospital: str, lines: Sequence[LedgerLine]) -> Table:
    """Return a row per entry."""
    rows: list[list[Cell]] = [
        [
            line.sequence,
            f"{line.time:%Y-%m-%d %H:%M}",
            line.kind,
            line.run,
            None if line.asked is None else f"{line.asked:.2f}",
            rounded_up(line.lifetime),
            line.what,
        ]
        for line in lines
    ]
    columns = ["entry", "time (UTC)", "kind", "run", "asked", "lifetime", "what"]
    return Table(f"Privacy ledger of {hospital}", columns, rows)


def budget_plot(budget: HospitalBudget, lines: Sequence[LedgerLine]) -> Picture:
    """Return epsilon over time with the cap and what was refused."""
    from fl_assets.reporting.privacy_plots import budget_over_time

    refused = [(line.time, line.lifetime) for line in lines if line.kind == "refuse"]
    spent = [(line.time, line.lifetime) for line in lines if line.kind != "refuse"]
    png = budget_over_time(spent, refused, budget.cap, budget.delta, budget.hospital)
    return Picture(png, "Privacy budget over time")

"""Where the hospitals' privacy budgets stand: a read-only view of their ledgers."""

from __future__ import annotations

from collections.abc import Sequence

from fl_assets.federation.witnesses import load_witness
from fl_assets.privacy.ledger import Ledger
from fl_assets.privacy.ledger_entries import rounded_down, rounded_up
from fl_assets.privacy.ledger_view import HospitalBudget, LedgerLine
from fl_assets.reporting.html import Cell, Picture, Table
from fl_assets.settings import Settings


def open_ledger(settings: Settings, hospital: str) -> Ledger:
    """Return a hospital's ledger, which must hold what the coordinator saw of it.

    Raises:
        UnknownHospitalError: there is no such hospital.
    """
    settings.whole_consortium.hospital(hospital)
    witness = load_witness(settings.coordinator_store(), hospital)
    store = settings.listing_store(hospital)
    return Ledger(store, hospital, [] if witness is None else [witness])


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

"""The commands over the hospitals' privacy ledgers: ``budget``, ``verify-ledger``, ``settle``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.markup import escape

from fl_assets.cli.output import Format, FormatOption, err, out, print_json, print_table
from fl_assets.settings import Settings

if TYPE_CHECKING:
    from fl_assets.privacy.ledger import Ledger
    from fl_assets.privacy.ledger_view import HospitalBudget

OneHospital = Annotated[str | None, typer.Argument(help="Name in consortium.yaml; all if absent.")]
Found = TypeVar("Found")


def budget(hospital: OneHospital = None, answer: FormatOption = Format.TABLE) -> None:
    """Show what is spent and left of the hospitals' privacy budgets, and with a name every entry.

    Exit code 1 if a ledger is damaged; the others are shown all the same.
    """
    from fl_assets.coordinator.budget import budget_table, line_table, open_ledger
    from fl_assets.privacy.ledger_view import hospital_budget, ledger_lines

    settings = Settings.from_environment()

    def look(name: str) -> tuple[Ledger, HospitalBudget]:
        ledger = open_ledger(settings, name)
        return ledger, hospital_budget(ledger, name, settings.whole_consortium.budget(name))

    looked, damages = _each(settings, hospital, look)
    found = {name: one for name, (_, one) in looked.items()}
    lines = []
    if hospital in looked:
        ledger, one = looked[hospital]
        lines = ledger_lines(ledger.entries(), one.delta)
    if answer == Format.JSON:
        print_json(
            {
                "hospitals": [one.model_dump(mode="json") for one in found.values()],
                "entries": [line.model_dump(mode="json") for line in lines],
                "damages": damages,
            }
        )
    else:
        if found:
            print_table(budget_table(list(found.values())))
        if lines:
            print_table(line_table(str(hospital), lines))
        if any(one.unprotected_runs for one in found.values()):
            out.print("\nspent and left hold for the protected runs alone", soft_wrap=True)
    _end(damages)


def verify_ledger(hospital: OneHospital = None, answer: FormatOption = Format.TABLE) -> None:
    """Check that the hospitals' ledgers are whole, and hold what the coordinator saw of them.

    Exit code 1 if one is damaged.
    """
    from fl_assets.coordinator.budget import open_ledger

    settings = Settings.from_environment()
    found, damages = _each(
        settings, hospital, lambda name: len(open_ledger(settings, name).entries())
    )
    if answer == Format.JSON:
        print_json({"entries": found, "damages": damages})
    else:
        for name, entries in found.items():
            out.print(f"[green]✓[/] {name}: the ledger is whole, {entries} entries")
    _end(damages)


def settle(
    hospital: Annotated[str, typer.Argument(help="Name in consortium.yaml.")],
    run: Annotated[str, typer.Argument(help="Name of the run, as `fla budget HOSPITAL` shows it.")],
) -> None:
    """Close a run that was interrupted and will never go on, at one hospital.

    What provably never left is given back to the budget. The run can answer no more.
    """
    from fl_assets.site.spending import settle_interrupted

    settings = Settings.from_environment()
    settings.whole_consortium.hospital(hospital)
    done = settle_interrupted(settings.site_store(hospital), hospital, run)
    out.print(f"{hospital}: run {escape(run)}: {done}", soft_wrap=True)


def _each(
    settings: Settings, hospital: str | None, look: Callable[[str], Found]
) -> tuple[dict[str, Found], dict[str, str]]:
    """Look at one hospital or all; returns what was found and, where a ledger is damaged, why."""
    from fl_assets.privacy.ledger_chain import LedgerDamagedError

    found, damages = {}, {}
    for name in settings.consortium.hospital_names if hospital is None else [hospital]:
        try:
            found[name] = look(name)
        except LedgerDamagedError as error:
            damages[name] = str(error)
    return found, damages


def _end(damages: dict[str, Any]) -> None:
    for reason in damages.values():
        err.print(f"[red]✗[/] {escape(reason)}", soft_wrap=True)
    if damages:
        raise typer.Exit(1)

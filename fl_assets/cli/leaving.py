"""The commands for who leaves: ``withdraw``, ``readmit``, ``delete-data``, ``erase``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from fl_assets.cli.output import (
    Format,
    FormatOption,
    HospitalArgument,
    YesOption,
    confirm,
    err,
    out,
    print_json,
    print_table,
)
from fl_assets.errors import FlAssetsError
from fl_assets.settings import Settings

if TYPE_CHECKING:
    from fl_assets.coordinator.erased import StaleVersion
    from fl_assets.coordinator.withdrawal import Consequences
    from fl_assets.site.receipts import Receipt
    from fl_assets.storage import SiteStore


ERASING = "fla erase"  # who asks, in the hospital's egress log


class NotConfirmedError(FlAssetsError):
    """What cannot be undone was not confirmed by the hospital's name."""

    def __init__(self, hospital: str) -> None:
        super().__init__(f"nothing was deleted: the answer was not {hospital!r}")


def withdraw(
    hospital: HospitalArgument, yes: YesOption = False, answer: FormatOption = Format.TABLE
) -> None:
    """Let a hospital leave the consortium.

    Its partition is closed, and every model version that was trained on any version of its data is
    tagged `withdrawn` and loses its aliases: none of them is promoted or used any more. The
    hospital's own data are not touched: it deletes them itself by `fla delete-data`. Run again
    after a training that was under way, it blocks what that one made.
    """
    from fl_assets.coordinator.withdrawal import consequences
    from fl_assets.coordinator.withdrawal import withdraw as carry_out

    settings = Settings.from_environment()
    found = consequences(settings, hospital)
    if answer == Format.TABLE:
        _show_consequences(hospital, found)
    confirm(f"withdraw {hospital}?", yes)
    done = carry_out(settings, hospital)
    if answer == Format.JSON:
        proposed = found.model_dump(mode="json") | {"commands": found.commands}
        print_json(done.model_dump(mode="json") | proposed | {"versions": _plain(done.versions)})
        return
    out.print(f"\n{hospital} has withdrawn; {len(done.versions)} model versions are blocked")
    if found.champion is not None:
        out.print(f"version {found.champion} was champion: there is none any more")
    for command in found.commands:
        out.print(f"to train without it: {command}")
    out.print(
        f"its own data are still there: the hospital deletes them by `fla delete-data {hospital}`"
    )
    out.print(
        "its privacy ledger stays: what was released stays released, and nothing is given back",
        soft_wrap=True,
    )


def _plain(models: Any) -> list[Any]:
    return [model.model_dump(mode="json") for model in models]


def _show_consequences(hospital: str, found: Consequences) -> None:
    from fl_assets.reporting.html import Table

    columns = ["version", "recipe", "its partitions", "aliases", "differentially private"]
    rows = [
        [
            v.version,
            v.recipe,
            v.partitions or "record lost, may hold any",
            ", ".join(v.aliases) or None,
            "yes" if v.private else "no",
        ]
        for v in found.versions
    ]
    print_table(Table(f"Model versions with data of {hospital}", columns, rows))
    out.print(f"\nstaying: {', '.join(found.staying) or 'nobody'}", soft_wrap=True)
    for warning in found.warnings:
        _note(warning)


def readmit(hospital: HospitalArgument, answer: FormatOption = Format.TABLE) -> None:
    """Take a hospital that has withdrawn in again.

    Its partition is open again, and model versions blocked for its sake alone may be promoted
    again. Aliases come back by the next promotion.
    """
    from fl_assets.coordinator.withdrawal import readmit as carry_out

    freed = carry_out(Settings.from_environment(), hospital)
    if answer == Format.JSON:
        print_json({"hospital": hospital, "freed": freed})
    else:
        out.print(
            f"{hospital} is a member again; free again: {', '.join(freed) or 'no model version'}"
        )


def delete_data(
    hospital: HospitalArgument,
    force: Annotated[
        bool, typer.Option("--force", help="Although the hospital is a member, as to begin anew.")
    ] = False,
    yes: YesOption = False,
    answer: FormatOption = Format.TABLE,
) -> None:
    """Delete all that a hospital's store holds of its patients, in every version, for good.

    Run by the hospital with its own rights. The privacy ledger and the egress log stay, since
    they are the evidence, and a receipt is stored beside them. Asks for the hospital's name.
    """
    from fl_assets.coordinator.withdrawal import NotWithdrawnError
    from fl_assets.site.deletion import delete_data as carry_out

    settings = Settings.from_environment()
    settings.whole_consortium.hospital(hospital)
    # A member's data are in use: runs under way, and the proof of what models were trained on.
    if not force and hospital not in settings.withdrawn:
        raise NotWithdrawnError(
            hospital,
            f"`fla withdraw {hospital}` comes first, so that nothing is trained on the data or "
            "with the models made of it; or --force, to begin anew as a member",
        )
    if (
        not yes
        and typer.prompt(f"type {hospital} to delete its data for good", err=True) != hospital
    ):
        raise NotConfirmedError(hospital)
    _show_receipt(carry_out(settings.site_store(hospital), hospital), answer)


def erase(
    hospital: HospitalArgument,
    patient: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="The patient's id in the uploads; `-` reads it from standard input, so that it "
            "is not in the shell's history.",
        ),
    ],
    yes: YesOption = False,
    answer: FormatOption = Format.TABLE,
) -> None:
    """Erase one patient from a hospital's data, run by the hospital itself.

    Takes the rows out of every upload, makes records, partitions and profile anew, and removes
    every older version that held them. The id is in no log, receipt or message. Models that were
    trained on the patient are tagged `erased_since`.
    """
    from fl_assets.site.erasing import erase_patient

    settings = Settings.from_environment()
    settings.whole_consortium.hospital(hospital)
    store = settings.site_store(hospital)
    wanted = _asked(patient)
    confirm(f"erase the patient from all data of {hospital}, for good?", yes)
    done = erase_patient(
        store, settings.cohort, hospital, wanted, partial(_rebuild, settings, hospital, store)
    )
    if answer == Format.TABLE:
        if done.receipt is None:
            out.print("the patient was erased before, and nothing has come since")
        else:
            _show_receipt(done.receipt, answer)
    for key in done.unread:
        _note(f"{key} cannot be read and may hold the patient: correct it, or remove it")
    if done.receipt is not None:
        _describe(settings, hospital)
    stale = _mark(settings, hospital, store)
    if answer == Format.JSON:
        receipt = None if done.receipt is None else done.receipt.model_dump(mode="json")
        models = None if stale is None else _plain(stale)
        print_json({"receipt": receipt, "unread": done.unread, "models": models})
    elif stale:
        _show_stale(stale)
    if stale is None:
        raise typer.Exit(1)


def _note(text: str) -> None:
    err.print(f"[bold]note[/] {escape(text)}", soft_wrap=True)


def _asked(patient: str) -> str:
    if patient != "-":
        found = patient
    elif sys.stdin.isatty():
        found = typer.prompt("id", hide_input=True, err=True)
    else:
        found = sys.stdin.readline()
    if not found.strip():
        raise typer.BadParameter("is empty", param_hint="ID")
    return found.strip()


def _rebuild(
    settings: Settings, hospital: str, store: SiteStore, taken_out: Mapping[str, int]
) -> None:
    from fl_assets.site.engines import intake_engine
    from fl_assets.site.intake import collect_records
    from fl_assets.site.partitions import build_partitions

    spec, consortium = settings.cohort, settings.whole_consortium
    engine = intake_engine(settings, hospital)
    collect_records(store, spec, consortium.intake, engine, ERASING, taken_out)
    build_partitions(store, spec, consortium.split, ERASING)


def _describe(settings: Settings, hospital: str) -> None:
    """Make the profile anew, which a spent budget may forbid."""
    from fl_assets.site.tasks.base import perform
    from fl_assets.site.tasks.data import BuildProfile

    try:
        perform(settings, hospital, BuildProfile(run=ERASING))
    except FlAssetsError as error:
        _note(f"the profile stays as it was: {error}")
        return
    if settings.whole_consortium.profile_epsilon is None:
        _note(
            "whoever holds the profiles before and after can tell the erased values by "
            "subtraction; `profile_epsilon` in consortium.yaml would prevent it"
        )


def _mark(settings: Settings, hospital: str, store: SiteStore) -> list[StaleVersion] | None:
    """Tell the coordinator which partitions held somebody; it tags the models made of them.

    None where the registry cannot be reached, as with a hospital's rights alone.
    """
    from fl_assets.coordinator.erased import mark_erased
    from fl_assets.site.egress import EgressLog
    from fl_assets.site.erasure import erased_partitions
    from fl_assets.tracking.runs import TrackingError

    erased = erased_partitions(store)
    if not erased:
        return []
    told = "".join(f"{version} {since:%Y-%m-%d}\n" for version, since in erased.items())
    EgressLog(store).release("erasure", ERASING, told.encode(), "partition versions")
    try:
        return mark_erased(settings, hospital, erased)
    except TrackingError as error:
        _note(
            f"the models are not tagged: {error}. Erase once more where the registry can be "
            f"reached, or tell the coordinator these partition versions: {', '.join(erased)}"
        )
        return None


def _show_receipt(receipt: Receipt, answer: Format) -> None:
    from fl_assets.reporting.html import Cell, Table

    if answer == Format.JSON:
        print_json(receipt.model_dump(mode="json"))
        return
    columns = ["class", "objects", "versions", "bytes"]
    rows: list[list[Cell]] = [[c.name, c.objects, c.versions, c.bytes] for c in receipt.deleted]
    print_table(Table(f"Deleted at {receipt.hospital}", columns, rows))
    if receipt.kind == "erasure":
        out.print(f"\n{receipt.rows} rows taken out of {receipt.rewritten} uploads")
    for key, why in receipt.kept.items():
        out.print(f"kept  {key}  {why}", soft_wrap=True)
    out.print(f"\n{receipt.statement}", soft_wrap=True)
    out.print(f"receipt: {receipt.name}, SHA-256 of the list {receipt.sha256}", soft_wrap=True)


def _show_stale(stale: list[StaleVersion]) -> None:
    for found in stale:
        privacy = "; its epsilon bounds what it tells of any patient" if found.private else ""
        aliases = f" ({', '.join(found.aliases)})" if found.aliases else ""
        out.print(
            f"version {found.version}{aliases} of recipe {found.recipe} was trained on data that "
            f"held somebody erased since{privacy}",
            soft_wrap=True,
        )
    out.print("their data have changed: `fla demo` trains the routine recipes anew")

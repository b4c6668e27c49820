"""The commands over a hospital's uploads: ``upload``, ``quarantine``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer
from rich.markup import escape

from fl_assets.cli.checking import FileCheck, check_file, check_json, show_check, show_reasons
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
from fl_assets.errors import BadDataError
from fl_assets.settings import Settings

if TYPE_CHECKING:
    from fl_assets.site.quarantine import QuarantineReport
    from fl_assets.storage import SiteStore


_BLOCK = 2**20  # bytes that are compared at a time


class UploadNotSentError(BadDataError):
    """A file that intake would not take was not sent."""


def upload(
    hospital: HospitalArgument,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Data files to send.")],
    name: Annotated[
        str | None,
        typer.Option("--as", help="Its name at the hospital, if not the file's; of one file."),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only check, send nothing.")] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Send also what would block the records until corrected."),
    ] = False,
    yes: YesOption = False,
    answer: FormatOption = Format.TABLE,
) -> None:
    """Check files and send them to where a hospital's uploads arrive.

    A file of the same name takes the place of the earlier one: so a correction clears what that
    one left in quarantine. New data get a name of their own. A transfer that broke off goes on
    when the command is run again.

    Exit code 1 if a file is not sent.
    """
    from fl_assets.coordinator.withdrawal import HospitalWithdrawnError

    settings = Settings.from_environment()
    settings.whole_consortium.hospital(hospital)
    if _has_left(settings, hospital):
        raise HospitalWithdrawnError(hospital)
    if name is not None and len(files) > 1:
        raise typer.BadParameter("names one file, and there are more", param_hint="--as")
    store = settings.site_store(hospital)
    # All are checked before the first is sent.
    keys = [_key(file, name) for file in files]
    checks = [check_file(file, settings.cohort) for file in files]
    done = []
    for key, found in zip(keys, checks, strict=True):
        if answer == Format.TABLE:
            show_check(found)
        what = "checked" if check else _send(settings, store, key, found, force=force, yes=yes)
        done.append(check_json(found) | {"key": key, "status": what})
        if answer == Format.TABLE and not check:
            out.print(f"  {what}: {escape(key)}", soft_wrap=True)
    if answer == Format.JSON:
        print_json(done)
    elif any(one["status"] in {"sent", "replaced"} for one in done):
        _say_what_follows(hospital)
    if check and any(_blocks(settings, found) for found in checks):
        raise typer.Exit(1)


def _has_left(settings: Settings, hospital: str) -> bool:
    from fl_assets.storage import StorageError

    try:
        return hospital in settings.withdrawn
    except StorageError:
        # With a hospital's rights alone, the coordinator's store is out of reach.
        return False


def _key(file: Path, name: str | None) -> str:
    from datetime import UTC, datetime

    from fl_assets.site.intake import INCOMING, is_upload
    from fl_assets.storage import ObjectInfo
    from fl_assets.storage.base import check_key

    key = check_key(f"{INCOMING}{name or file.name}")
    if not is_upload(ObjectInfo(key, 1, "", datetime.now(UTC))):
        raise UploadNotSentError(
            f"{key!r} would be taken for a part or a draft of a file: give it another name by --as"
        )
    return key


def _blocks(settings: Settings, found: FileCheck) -> bool:
    return found.quarantined_share > settings.whole_consortium.intake.max_quarantined


def _send(
    settings: Settings, store: SiteStore, key: str, found: FileCheck, *, force: bool, yes: bool
) -> str:
    """Send a file if that is wanted; return what was done."""
    same = _same_content(store, found.file)
    if same is not None:
        return "already there" if same == key else f"already there as {same}"
    limit = settings.whole_consortium.intake.max_quarantined
    counts = found.counts
    if _blocks(settings, found) and not force:
        raise UploadNotSentError(
            f"{found.file.name}: {counts.quarantined} of {counts.rows_in} rows do not fit, more "
            f"than {limit:.0%}: it would block the hospital's records. Correct it, or send it all "
            "the same by --force"
        )
    if counts.quarantined:
        confirm(f"send it, with {counts.quarantined} rows that go to quarantine?", yes)
    replaces = store.exists(key)
    if replaces:
        confirm(
            f"{key} is there with other content: put this file in its place? Rows that only the "
            "earlier one has will be gone; --as gives new data a name of their own",
            yes,
        )
    _transfer(store, key, found.file)
    return "replaced" if replaces else "sent"


def _same_content(store: SiteStore, file: Path) -> str | None:
    """Return the key of an upload with the same bytes; only those of the same size are read."""
    from fl_assets.site.intake import INCOMING

    size = file.stat().st_size
    for info in store.list(INCOMING):
        if info.size == size:
            with file.open("rb") as ours, store.open(info.key, info.version) as theirs:
                if all(a == b for a, b in zip(_blocks_of(ours), _blocks_of(theirs), strict=True)):
                    return info.key
    return None


def _blocks_of(stream: BinaryIO) -> Iterator[bytes]:
    return iter(lambda: stream.read(_BLOCK), b"")


def _transfer(store: SiteStore, key: str, file: Path) -> None:
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    columns = ("[progress.description]{task.description}", BarColumn(), DownloadColumn())
    with Progress(*columns, TimeRemainingColumn(), console=err, transient=True) as progress:
        task = progress.add_task(escape(file.name), total=file.stat().st_size)
        store.put_file(key, file, lambda done: progress.update(task, completed=done))


def _say_what_follows(hospital: str) -> None:
    out.print(
        "\nnext: where Dagster runs (`fla dev`), its upload sensor takes it from here; without it, "
        "`fla demo`\ndoes all that is due in the consortium, and for this hospital alone:\n"
        f"  python -m fl_assets.site records {hospital}\n"
        f"  python -m fl_assets.site partitions {hospital}\n"
        f"  python -m fl_assets.site profile {hospital}",
        soft_wrap=True,
    )


def quarantine(
    hospital: HospitalArgument,
    rows: Annotated[
        Path | None,
        typer.Option(
            help="Write the rows with their reasons to this new CSV file, which you alone can "
            "read. They are patients' data."
        ),
    ] = None,
    answer: FormatOption = Format.TABLE,
) -> None:
    """Show what is held back of a hospital's uploads and why, run by the hospital itself.

    A corrected file under the same name clears it: `fla upload`. Exit code 1 while uploads block
    the records.
    """
    from fl_assets.site.quarantine import (
        quarantine_report,
        quarantined_lines,
        write_quarantined_rows,
    )

    settings = Settings.from_environment()
    settings.whole_consortium.hospital(hospital)
    store = settings.site_store(hospital)
    report = quarantine_report(store)
    lines = {u.key: quarantined_lines(store, u.key) for u in report.uploads if u.quarantined}
    written = None if rows is None else write_quarantined_rows(store, rows)
    if answer == Format.JSON:
        found = report.model_dump(mode="json") | {"hospital": hospital, "lines": lines}
        print_json(found | ({} if rows is None else {"rows": str(rows), "written": written}))
    else:
        _show_quarantine(hospital, report, lines)
        if rows is not None:
            out.print(f"\n{written} rows are in {escape(str(rows))}, which you alone can read")
    if report.blocked:
        raise typer.Exit(1)


def _show_quarantine(
    hospital: str, report: QuarantineReport, lines: dict[str, dict[str, list[int]]]
) -> None:
    from fl_assets.reporting.html import Table

    columns = ["upload", "rows in", "accepted", "in quarantine", "duplicates"]
    shown: list[list[Any]] = [
        [u.key, u.rows_in, u.accepted, u.quarantined, u.duplicates] for u in report.uploads
    ]
    print_table(Table(f"Uploads of {hospital}", columns, shown))
    for upload in report.held_back:
        if upload.refused is not None:
            out.print(f"[red]refused[/] {escape(upload.refused)}", soft_wrap=True)
        if upload.quarantined:
            out.print(escape(upload.key), soft_wrap=True)
            show_reasons(lines[upload.key])
    if not report.held_back:
        out.print("\nnothing is held back")
    for key, reason in report.blocked.items():
        out.print(
            f"[bold red]blocks the records[/] {escape(key)}: {escape(reason)}", soft_wrap=True
        )
    if report.blocked:
        out.print(
            "the earlier records stay current until each of these files is corrected and sent "
            f"again under its name (`fla upload {hospital} FILE`), or removed",
            soft_wrap=True,
        )
    if report.ignored:
        out.print(f"no uploads, but parts or drafts: {escape(', '.join(report.ignored))}")
    if report.outdated:
        out.print("something was uploaded or removed since; this is what the last intake found")

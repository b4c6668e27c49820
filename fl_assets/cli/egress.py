"""The command ``egress``: what left a hospital."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import click
import typer
from rich.markup import escape

from fl_assets.cli.output import (
    Format,
    FormatOption,
    HospitalArgument,
    err,
    out,
    print_json,
    print_table,
)
from fl_assets.settings import Settings
from fl_assets.site.egress import EgressKind

if TYPE_CHECKING:
    from fl_assets.reporting.html import Table
    from fl_assets.site.egress import EgressEntry


def egress(
    hospital: HospitalArgument,
    since: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="From this day (UTC) on.")
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            click_type=click.Choice(get_args(EgressKind)),
            help="Of this kind alone; may be given again.",
        ),
    ] = None,
    run: Annotated[str | None, typer.Option(help="That this run asked for.")] = None,
    messages: Annotated[
        bool, typer.Option("--messages", help="Every message by itself, not summed up.")
    ] = False,
    html: Annotated[Path | None, typer.Option(help="Write a page to this file as well.")] = None,
    answer: FormatOption = Format.TABLE,
) -> None:
    """Show what left a hospital: when, of which kind, how many bytes, and which run asked for it.

    The log is written before a message leaves. Exit code 1 if an entry was edited or is missing.
    """
    from fl_assets.site.egress import EgressLog
    from fl_assets.site.egress_report import egress_page, group_table, message_table
    from fl_assets.site.egress_summary import select, summarise

    settings = Settings.from_environment()
    settings.whole_consortium.hospital(hospital)
    log = EgressLog(settings.listing_store(hospital))
    logged, damages = log.read()
    day = None if since is None else since.replace(tzinfo=UTC).date()
    entries = select(logged, day, kind or (), run)
    summary = summarise(entries)
    if html is not None:
        html.write_text(egress_page(hospital, entries, damages), encoding="utf-8")
    if answer == Format.JSON:
        found = summary.model_dump(mode="json") | {"hospital": hospital, "damages": damages}
        shown = [entry.model_dump(mode="json") for entry in entries]
        print_json(found | ({"entries": shown} if messages else {}))
    else:
        table = message_table if messages else group_table
        _show(table(hospital, entries), entries, damages)
    if damages:
        raise typer.Exit(1)


def _show(table: Table, entries: list[EgressEntry], damages: list[str]) -> None:
    print_table(table)
    total = sum(entry.size for entry in entries)
    out.print(f"\n{len(entries):,} messages, {total:,} bytes")
    for damage in damages:
        err.print(f"[red]✗[/] {escape(damage)}", soft_wrap=True)
    if not damages:
        out.print("no entry was edited, none is missing before the newest one")

"""What every command answers with: tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from fl_assets.reporting.html import Table

# Answers go to stdout, so that they can be piped; everything else to stderr.
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


class Format(StrEnum):
    """How a command answers."""

    TABLE = "table"
    JSON = "json"


FormatOption = Annotated[
    Format, typer.Option("--format", "-f", help="For people, or for programs.")
]


HospitalArgument = Annotated[str, typer.Argument(help="Name in consortium.yaml.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def confirm(question: str, yes: bool) -> None:
    """Ask a person, who has not said yes before; no and no answer end the command.

    Raises:
        typer.Abort: the answer is no, or nobody is there to give one.
    """
    if not yes:
        typer.confirm(question, abort=True, err=True)


def print_json(document: Any) -> None:
    """Answer a program."""
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


def print_table(table: Table) -> None:
    """Answer a person."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as RichTable

    shown = RichTable(
        title=table.caption, title_justify="left", title_style="bold", box=SIMPLE_HEAD
    )
    for place, column in enumerate(table.columns):
        cells = [str(row[place]) for row in table.rows]
        figures = place > 0 and any(cell[:1].isdigit() or cell[:1] in "+-" for cell in cells)
        shown.add_column(column, justify="right" if figures else "left")
    for row in table.rows:
        shown.add_row(*("–" if cell is None else escape(str(cell)) for cell in row))
    # A table wider than the terminal is better wrapped by it than cut by us.
    needed = out.measure(shown, options=out.options.update_width(400)).maximum
    Console(highlight=False, width=max(out.width, needed)).print("", shown)

"""``fla``: the command line."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from fl_assets.errors import FlAssetsError
from fl_assets.settings import Settings

app = typer.Typer(
    help="A federated-learning consortium of hospitals as a Dagster asset graph.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


class Format(StrEnum):
    """How a command answers."""

    TABLE = "table"
    JSON = "json"


FormatOption = Annotated[Format, typer.Option("--format", "-f", help="table for people, or json.")]


def main() -> None:
    """Run the command line; our own errors end it with their message and exit code 1."""
    try:
        app()
    except FlAssetsError as error:
        Console(stderr=True).print(f"[bold red]error:[/] {error}", highlight=False)
        sys.exit(1)

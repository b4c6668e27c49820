"""The application: every command, and how errors end it."""

from __future__ import annotations

import sys

import typer
from rich.markup import escape

from fl_assets.cli import (
    audit,
    consortium,
    dashboard,
    doctor,
    egress,
    experiments,
    leaving,
    patients,
    privacy,
    uploads,
)
from fl_assets.cli.output import err
from fl_assets.errors import FlAssetsError

app = typer.Typer(
    help="A federated-learning consortium of hospitals as a Dagster asset graph.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for command in (
    consortium.demo,
    consortium.status,
    experiments.recipes,
    experiments.run,
    experiments.compare,
    experiments.sweep,
    audit.audit,
    privacy.budget,
    privacy.verify_ledger,
    privacy.settle,
    patients.validate,
    uploads.upload,
    uploads.quarantine,
    egress.egress,
    leaving.withdraw,
    leaving.readmit,
    leaving.delete_data,
    leaving.erase,
    patients.predict,
    consortium.dev,
    dashboard.dashboard,
    doctor.doctor,
):
    app.command()(command)


def main() -> None:
    """Run the command line; our own errors end it with their message and exit code 1."""
    try:
        app()
    except FlAssetsError as error:
        err.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(1)

"""The command ``doctor``: what is right and what is wrong at the place where it is run."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from fl_assets.cli.output import Format, FormatOption, err, print_json, print_table
from fl_assets.errors import FlAssetsError
from fl_assets.settings import Settings

COULD_NOT_BE_RUN = 2


def doctor(
    hospital: Annotated[
        str | None,
        typer.Option(
            help="Check as this hospital's machine or pod; as the coordinator's if absent."
        ),
    ] = None,
    answer: FormatOption = Format.TABLE,
) -> None:
    """Check the place where this is run: what passed, what is a problem, and its cure.

    What is checked follows from the environment: packages, files, disk, MLflow, stores (also that
    those which must be closed are), Java for Spark, the cluster with FLA_RUNTIME=kubernetes. Probes
    are removed again.

    Exit code 0 if nothing is wrong, 1 if something is, 2 if the checks could not be run.
    """
    import dataclasses

    from fl_assets.doctor.checks import examine, exit_code
    from fl_assets.doctor.preflight import preflight
    from fl_assets.reporting.html import Table

    findings = []
    try:
        for check in preflight(Settings.from_environment(), hospital):
            err.print(f"[dim]  {escape(check.name)} ...[/]", soft_wrap=True)
            findings.append(examine(check))
    except FlAssetsError as error:
        err.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
        raise typer.Exit(COULD_NOT_BE_RUN) from None
    if answer == Format.JSON:
        print_json([dataclasses.asdict(finding) for finding in findings])
    else:
        rows = [(f.check, f.verdict.value, f.found, f.cure) for f in findings]
        print_table(Table("Preflight", ["check", "verdict", "found", "cure"], rows))
    raise typer.Exit(exit_code(findings))

"""The commands over a file of patients: ``validate``, ``predict``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from fl_assets.cli.checking import check_file, check_json, show_check
from fl_assets.cli.output import Format, FormatOption, print_json
from fl_assets.settings import Settings


def validate(
    file: Annotated[Path, typer.Argument(help="A CSV as a hospital would upload it.")],
    answer: FormatOption = Format.TABLE,
) -> None:
    """Check a file against the cohort's contract before it is uploaded.

    Exit code 0 if every row fits, 1 if any row would go to quarantine or the file is refused.
    """
    settings = Settings.from_environment()
    check = check_file(file, settings.cohort)
    if answer == Format.JSON:
        print_json(check_json(check))
    else:
        show_check(check)
    if check.counts.quarantined:
        raise typer.Exit(1)


def predict(
    file: Annotated[Path, typer.Argument(help="A CSV with the cohort's feature columns.")],
    model: Annotated[str, typer.Option(help="Version number or alias.")] = "champion",
    answer: FormatOption = Format.TABLE,
) -> None:
    """Score patients with a registered model; writes CSV, or JSON, to standard output."""
    from fl_assets.cohorts.scoring import read_features
    from fl_assets.cohorts.source import read_file
    from fl_assets.coordinator.prediction import score

    settings = Settings.from_environment()
    frame = read_features(read_file(file), settings.cohort, file.name)
    scored = score(settings, frame, model)
    if answer == Format.JSON:
        sys.stdout.write(scored.to_json(orient="records", indent=2) + "\n")
    else:
        scored.to_csv(sys.stdout, index=False)

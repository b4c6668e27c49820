"""The commands over a file of patients: ``validate``, ``predict``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from fl_assets.cli.output import Format, FormatOption, out, print_json
from fl_assets.settings import Settings


def validate(
    file: Annotated[Path, typer.Argument(help="A CSV as a hospital would upload it.")],
    answer: FormatOption = Format.TABLE,
) -> None:
    """Check a file against the cohort's contract before it is uploaded.

    Exit code 0 if every row fits, 1 if any row would go to quarantine or the file is refused.
    """
    from fl_assets.cohorts.contract import check_rows
    from fl_assets.cohorts.reader import read_rows
    from fl_assets.cohorts.source import read_file

    settings = Settings.from_environment()
    checked = check_rows(read_rows(read_file(file), settings.cohort, file.name), settings.cohort)
    counts = checked.counts
    if answer == Format.JSON:
        print_json(
            {
                "file": str(file),
                "cohort": settings.cohort.name,
                "contract": settings.cohort.version,
                "rows_in": counts.rows_in,
                "accepted": counts.accepted,
                "quarantined": counts.quarantined,
                "duplicates": counts.duplicates,
                "reasons": checked.reasons,
                "lines": {reason: checked.lines(reason) for reason in checked.reasons},
            }
        )
    else:
        out.print(f"{file.name}: {counts.rows_in} rows for cohort {settings.cohort.name}")
        out.print(f"  accepted     {counts.accepted}")
        out.print(f"  quarantined  {counts.quarantined}")
        for reason, rows in checked.reasons.items():
            lines = checked.lines(reason)
            first = ", ".join(map(str, lines[:5])) + (", ..." if len(lines) > 5 else "")
            out.print(f"    {rows:>6}  {escape(reason)}  (line {first})", soft_wrap=True)
        out.print(
            f"  duplicates   {counts.duplicates} (an id stands more than once; the last counts)"
        )
    if counts.quarantined:
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

"""``fla``: the command line."""

from __future__ import annotations

import json
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from fl_assets.errors import FlAssetsError
from fl_assets.settings import Settings

if TYPE_CHECKING:
    from fl_assets.pipeline import Outcome, Step
    from fl_assets.reporting.html import Table

app = typer.Typer(
    help="A federated-learning consortium of hospitals as a Dagster asset graph.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
# Answers go to stdout, so that they can be piped; everything else to stderr.
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


class NoWorkspaceError(FlAssetsError):
    """``fla dev`` was called outside a checkout."""

    def __init__(self, workspace: Path) -> None:
        super().__init__(f"{workspace} is not in this folder: run `fla dev` in a checkout")


class Format(StrEnum):
    """How a command answers."""

    TABLE = "table"
    JSON = "json"


FormatOption = Annotated[
    Format, typer.Option("--format", "-f", help="For people, or for programs.")
]


def main() -> None:
    """Run the command line; our own errors end it with their message and exit code 1."""
    try:
        app()
    except FlAssetsError as error:
        err.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(1)


@app.command()
def demo(
    data: Annotated[
        str | None,
        typer.Option(help="A CSV file, `kaggle` or `synthetic` (default; environment: DATA)."),
    ] = None,
    rows: Annotated[
        int | None, typer.Option(min=1, help="Rows that the synthetic generator makes.")
    ] = None,
    answer: FormatOption = Format.TABLE,
) -> None:
    """Run the main job: everything from raw data to a champion in the model registry.

    Does only what is not up to date; a second run on unchanged data skips nearly everything.
    """
    import dataclasses
    import warnings

    import dagster as dg

    warnings.filterwarnings("ignore", category=dg.BetaWarning)
    from fl_assets import pipeline

    settings = Settings.from_environment()
    settings = dataclasses.replace(
        settings,
        data=data or settings.data,
        synthetic_rows=rows or settings.synthetic_rows,
    )
    pipeline.prepare_dagster_home(settings)
    outcomes: list[Outcome] = []
    failure = None
    with dg.DagsterInstance.get() as instance:
        try:
            for outcome in pipeline.run(settings, instance, before=_announce):
                outcomes.append(outcome)
                _tell(outcome)
        except pipeline.StepFailedError as error:
            failure = error
    _answer_demo(settings, outcomes, answer)
    if failure is not None:
        raise failure


def _answer_demo(settings: Settings, outcomes: list[Outcome], answer: Format) -> None:
    """Show what there is, also after a failure."""
    from fl_assets.coordinator.comparison import KEY, load_comparison
    from fl_assets.coordinator.summary import comparison_table, hospital_table

    store = settings.coordinator_store()
    champion = _champion(settings)
    report = f"{settings.coordinator_uri}/report.html"
    if answer == Format.JSON:
        steps = [
            {
                "assets": o.step.assets,
                "partition": o.step.partition,
                "status": o.status,
                "materialised": o.materialised,
                "failure": o.failure,
                "seconds": round(o.seconds, 2),
            }
            for o in outcomes
        ]
        _json({"steps": steps, "champion": champion, "report": report})
        return
    if not store.exists(KEY):
        return
    comparison = load_comparison(store)
    _print(comparison_table(comparison))
    _print(hospital_table(comparison))
    if champion["version"] is None:
        out.print("\nno champion yet")
    else:
        out.print(f"\nchampion   {champion['model']} version {champion['version']}")
        out.print(f"           recipe {champion['recipe']}")
    if store.exists("report.html"):
        out.print(f"report     {report}", soft_wrap=True)
    skipped = sum(o.status == "up to date" for o in outcomes)
    out.print(f"           {skipped} of {len(outcomes)} steps were up to date and skipped")
    out.print("next       `make dev` opens the asset graph; `fla predict FILE` scores patients")


def _tell(outcome: Outcome) -> None:
    took = f"  {outcome.seconds:.1f} s" if outcome.seconds else ""
    mark = "[green]✓[/]" if outcome.failure is None else "[red]✗[/]"
    err.print(f"{mark} {_name(outcome.step)}: {outcome.status}{took}", soft_wrap=True)
    if outcome.failure is not None:
        err.print(f"    {escape(outcome.failure)}", soft_wrap=True)


def _name(step: Step) -> str:
    assets = ", ".join(step.assets)
    return f"{escape(f'[{step.partition}]')} {assets}" if step.partition else assets


def _announce(step: Step) -> None:
    err.print(f"[dim]  {_name(step)} ...[/]", soft_wrap=True)


def _champion(settings: Settings) -> dict[str, Any]:
    from fl_assets.tracking.models import CHAMPION, Registry
    from fl_assets.tracking.runs import Tracking

    tracking = Tracking(settings.tracking_uri, settings.consortium.name)
    version = Registry(tracking, settings.model_name).alias(CHAMPION)
    if version is None:
        return {"model": settings.model_name, "version": None, "recipe": None}
    return {
        "model": settings.model_name,
        "version": version.version,
        "recipe": version.tags.get("recipe"),
    }


@app.command()
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
        _json(
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


@app.command()
def status(answer: FormatOption = Format.TABLE) -> None:
    """Show what each hospital and each recipe has, and which model is champion."""
    from fl_assets.coordinator.status import consortium_status

    settings = Settings.from_environment()
    found = consortium_status(settings)
    if answer == Format.JSON:
        _json(found.model_dump(mode="json") | {"champion": _champion(settings)})
        return
    for shown in found.tables():
        _print(shown)
    champion = _champion(settings)
    if champion["version"] is None:
        out.print("\nno champion yet: run `fla demo`")
    else:
        out.print(
            f"\nchampion: {champion['model']} version {champion['version']} "
            f"(recipe {champion['recipe']})"
        )


@app.command()
def compare(answer: FormatOption = Format.TABLE) -> None:
    """Show every model side by side: references, centralised, each hospital alone, federated."""
    from fl_assets.coordinator.comparison import load_comparison
    from fl_assets.coordinator.summary import comparison_table, hospital_table

    settings = Settings.from_environment()
    comparison = load_comparison(settings.coordinator_store())
    if answer == Format.JSON:
        _json(comparison.model_dump(mode="json"))
        return
    _print(comparison_table(comparison))
    _print(hospital_table(comparison))


@app.command()
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


@app.command()
def dev(
    port: Annotated[int, typer.Option(help="Of the web UI.")] = 3000,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Open Dagster's UI on this consortium: graph, runs, backfills, sensors, schedules."""
    from fl_assets.pipeline import prepare_dagster_home

    workspace = Path("workspace.yaml")
    if not workspace.is_file():
        raise NoWorkspaceError(workspace)
    prepare_dagster_home(Settings.from_environment())
    # Dagster warns of its own beta parameters in every process that it starts.
    os.environ.setdefault("PYTHONWARNINGS", "ignore:Parameter `backfill_policy`")
    command = [sys.executable, "-m", "dagster", "dev", "--workspace", str(workspace)]
    os.execv(sys.executable, [*command, "--host", host, "--port", str(port)])  # noqa: S606


def _json(document: Any) -> None:
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


def _print(table: Table) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as RichTable

    shown = RichTable(
        title=table.caption, title_justify="left", title_style="bold", box=SIMPLE_HEAD
    )
    for place, column in enumerate(table.columns):
        shown.add_column(column, justify="left" if place == 0 else "right")
    for row in table.rows:
        shown.add_row(*("–" if cell is None else escape(str(cell)) for cell in row))
    # A table wider than the terminal is better wrapped by it than cut by us.
    needed = out.measure(shown, options=out.options.update_width(400)).maximum
    Console(highlight=False, width=max(out.width, needed)).print("", shown)


if __name__ == "__main__":
    main()

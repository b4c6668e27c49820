"""The commands over the whole consortium: ``demo``, ``status``, ``dev``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from fl_assets.cli.output import Format, FormatOption, err, out, print_json, print_table
from fl_assets.cli.steps import StepsFailedError, announce, dagster, step_json, tell
from fl_assets.errors import FlAssetsError
from fl_assets.settings import Settings

if TYPE_CHECKING:
    from fl_assets.pipeline import Outcome


class NoWorkspaceError(FlAssetsError):
    """``fla dev`` was called outside a checkout."""

    def __init__(self, workspace: Path) -> None:
        super().__init__(f"{workspace} is not in this folder: run `fla dev` in a checkout")


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

    In a real consortium (`simulated: false`) it begins with what the hospitals have uploaded (`fla
    upload`), and DATA, --data and --rows say nothing.
    """
    import dataclasses

    from fl_assets import pipeline

    settings = Settings.from_environment()
    settings = dataclasses.replace(
        settings,
        data=data or settings.data,
        synthetic_rows=rows or settings.synthetic_rows,
    )
    outcomes: list[Outcome] = []
    failed = False
    with dagster(settings) as instance:
        try:
            for outcome in pipeline.run(settings, instance, before=announce):
                outcomes.append(outcome)
                tell(outcome)
        except pipeline.StepFailedError:
            failed = True
    # Where nothing was looked at, what an earlier run has left says nothing of this one.
    if len(outcomes) > 1 or answer == Format.JSON:
        _answer_demo(settings, outcomes, answer)
    if failed:
        raise StepsFailedError(outcomes)


def _answer_demo(settings: Settings, outcomes: list[Outcome], answer: Format) -> None:
    """Show what there is, also after a failure."""
    from fl_assets.coordinator.comparison import KEY, load_comparison
    from fl_assets.coordinator.summary import comparison_table, hospital_table

    store = settings.coordinator_store()
    champion = _champion(settings)
    report = f"{settings.coordinator_uri}/report.html"
    if answer == Format.JSON:
        steps = [step_json(outcome) for outcome in outcomes]
        print_json({"steps": steps, "champion": champion, "report": report})
        return
    if not store.exists(KEY):
        return
    comparison = load_comparison(store)
    print_table(comparison_table(comparison))
    print_table(hospital_table(comparison))
    if champion["version"] is None:
        out.print(f"\n{_no_champion(settings)}", soft_wrap=True)
    else:
        out.print(f"\nchampion   {champion['model']} version {champion['version']}")
        out.print(f"           recipe {champion['recipe']}")
    if store.exists("report.html"):
        out.print(f"report     {report}", soft_wrap=True)
    skipped = sum(o.status == "up to date" for o in outcomes)
    out.print(f"           {skipped} of {len(outcomes)} steps were up to date and skipped")
    out.print("next       `make dev` opens the asset graph; `fla predict FILE` scores patients")


def status(answer: FormatOption = Format.TABLE) -> None:
    """Show what each hospital and each recipe has, and which model is champion."""
    from fl_assets.coordinator.status import consortium_status

    settings = Settings.from_environment()
    found = consortium_status(settings)
    if answer == Format.JSON:
        left = {"champion": _champion(settings), "withdrawn": sorted(settings.withdrawn)}
        print_json(found.model_dump(mode="json") | left)
        return
    for shown in found.tables():
        print_table(shown)
    for warning in found.warnings:
        err.print(f"\n[bold]note[/] {escape(warning)}", soft_wrap=True)
    if settings.withdrawn:
        out.print(f"\nwithdrawn: {', '.join(sorted(settings.withdrawn))}", soft_wrap=True)
    champion = _champion(settings)
    if champion["version"] is None:
        out.print(f"\n{_no_champion(settings)}", soft_wrap=True)
    else:
        out.print(
            f"\nchampion: {champion['model']} version {champion['version']} "
            f"(recipe {champion['recipe']})"
        )


def _no_champion(settings: Settings) -> str:
    from fl_assets.coordinator.withdrawal import champion_lost

    lost = champion_lost(settings)
    return "no champion yet: run `fla demo`" if lost is None else f"no champion any more: {lost}"


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


def dev(
    port: Annotated[int, typer.Option(help="Of the web UI.")] = 3000,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Open Dagster's UI on this consortium: graph, runs, backfills, sensors."""
    from fl_assets.pipeline import prepare_dagster_home

    workspace = Path("workspace.yaml")
    if not workspace.is_file():
        raise NoWorkspaceError(workspace)
    prepare_dagster_home(Settings.from_environment())
    command = [sys.executable, "-m", "dagster", "dev", "--workspace", str(workspace)]
    os.execv(sys.executable, [*command, "--host", host, "--port", str(port)])  # noqa: S606

"""The entry of a hospital's own process or pod: ``python -m fl_assets.site TASK HOSPITAL``."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from typing import Annotated, Any

import typer

from fl_assets.errors import FlAssetsError
from fl_assets.settings import Settings
from fl_assets.site import intake, partitions, profile
from fl_assets.site.egress import EgressLog
from fl_assets.site.egress_summary import summarise
from fl_assets.site.engines import intake_engine


class Task(StrEnum):
    """What a hospital does with its own data."""

    RECORDS = "records"
    PARTITIONS = "partitions"
    PROFILE = "profile"
    VERIFY = "verify"
    EGRESS = "egress"


def run(task: Task, settings: Settings, hospital: str, asked_by: str) -> dict[str, Any]:
    """Carry out a task and return its manifest, without a row in it."""
    cohort, consortium = settings.cohort, settings.whole_consortium
    store = settings.site_store(hospital)
    if task == Task.RECORDS:
        engine = intake_engine(settings, hospital)
        manifest = intake.collect_records(store, cohort, consortium.intake, engine)
        return manifest.model_dump(mode="json")
    if task == Task.PARTITIONS:
        return partitions.build_partitions(store, cohort, consortium.split).model_dump(mode="json")
    if task == Task.PROFILE:
        noised = profile.noised_profile(consortium, hospital)
        built = profile.build_profile(store, cohort, consortium.minimum_cell, asked_by, noised)
        return built.model_dump(mode="json")
    if task == Task.VERIFY:
        return {"problems": partitions.verify(store, cohort)}
    return summarise(EgressLog(store).entries()).model_dump(mode="json")


def main(
    task: Annotated[Task, typer.Argument(help="What to do.")],
    hospital: Annotated[str, typer.Argument(help="Name in consortium.yaml.")],
    asked_by: Annotated[
        str, typer.Option(help="Who asked, for the egress log.")
    ] = "the hospital itself",
) -> None:
    """Run a task on a hospital's own store, with the rights of the environment; prints JSON.

    records, partitions and profile do what the assets of those names do; verify compares the
    stored partitions with their manifest (exit code 1 if they differ); egress sums up what left,
    message by message it is in the store under egress/.
    """
    settings = Settings.from_environment()
    try:
        answer = run(task, settings, hospital, asked_by)
    except FlAssetsError as error:
        sys.stderr.write(f"error: {error}\n")
        raise typer.Exit(1) from None
    sys.stdout.write(json.dumps(answer, indent=2) + "\n")
    for upload in answer.get("uploads", ()):
        if upload["refused"]:
            sys.stderr.write(f"warning: refused: {upload['refused']}\n")
    if answer.get("problems"):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)

"""The entry of a hospital's own process or pod: ``python -m fl_assets.site TASK HOSPITAL``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from fl_assets.errors import FlAssetsError
from fl_assets.settings import Settings
from fl_assets.site.tasks.base import Answer, Request, perform
from fl_assets.site.tasks.data import (
    BuildPartitions,
    BuildProfile,
    CollectRecords,
    ShowEgress,
    VerifyPartitions,
)

app = typer.Typer(
    help="Run a task on a hospital's own store, with the rights of the environment; prints JSON.",
    add_completion=False,
    no_args_is_help=True,
)
Hospital = Annotated[str, typer.Argument(help="Name in consortium.yaml.")]
AskedBy = Annotated[str, typer.Option(help="Who asked, for the egress log.")]
ITSELF = "the hospital itself"


@app.command()
def records(hospital: Hospital, asked_by: AskedBy = ITSELF) -> None:
    """Do what the asset hospital_records does."""
    for upload in _show(hospital, CollectRecords(run=asked_by)).uploads:
        if upload.refused:
            sys.stderr.write(f"warning: refused: {upload.refused}\n")


@app.command()
def partitions(hospital: Hospital, asked_by: AskedBy = ITSELF) -> None:
    """Do what the asset hospital_partitions does."""
    _show(hospital, BuildPartitions(run=asked_by))


@app.command()
def profile(hospital: Hospital, asked_by: AskedBy = ITSELF) -> None:
    """Do what the asset hospital_profile does."""
    _show(hospital, BuildProfile(run=asked_by))


@app.command()
def verify(hospital: Hospital, asked_by: AskedBy = ITSELF) -> None:
    """Compare the stored partitions with their manifest; exit code 1 if they differ."""
    if _show(hospital, VerifyPartitions(run=asked_by)).problems:
        raise typer.Exit(1)


@app.command()
def egress(hospital: Hospital, asked_by: AskedBy = ITSELF) -> None:
    """Sum up what left; message by message it is in the store under egress/."""
    _show(hospital, ShowEgress(run=asked_by))


@app.command()
def answer(
    hospital: Hospital,
    task: Annotated[str, typer.Argument(metavar="ID", help="Of the task.")],
) -> None:
    """Carry out a task that the coordinator has put into its store, and reply there.

    The pod of a hospital runs it. Why it failed is in the pod's termination message.
    """
    from fl_assets.cluster.termination import telling_why
    from fl_assets.site.tasks import wire

    with telling_why():
        wire.answer(Settings.from_environment(), hospital, task)


def _show(hospital: str, request: Request[Answer]) -> Answer:
    """Carry a request out and print the answer."""
    try:
        found = perform(Settings.from_environment(), hospital, request)
    except FlAssetsError as error:
        sys.stderr.write(f"error: {error}\n")
        raise typer.Exit(1) from None
    sys.stdout.write(found.model_dump_json(indent=2) + "\n")
    return found


if __name__ == "__main__":
    app()

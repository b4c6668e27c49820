"""The command ``dashboard``: pages for people."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from fl_assets.cli.output import err
from fl_assets.settings import Settings


def dashboard(
    port: Annotated[int, typer.Option(help="Of the web pages.")] = 8501,
    host: Annotated[
        str, typer.Option(help="Address to listen on; the pages ask nobody who they are.")
    ] = "127.0.0.1",
) -> None:
    """Show hospitals, models, trainings, budgets and what left, as web pages that change nothing.

    They read what the coordinator may read: manifests, ledgers, egress logs, and no row. Needs the
    extra `dashboard`.
    """
    from fl_assets.dashboard.launch import command

    arguments = command(host, port)
    # Told here rather than on a page.
    name = Settings.from_environment().whole_consortium.name
    err.print(f"{name}: http://{host}:{port}")
    os.execv(arguments[0], arguments)  # noqa: S606

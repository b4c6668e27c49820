"""A long-lived executor: ``python -m fl_assets.federation.deployment.executor JSON``.

A site's executor answers every message of its SuperNode in this one process, with torch imported
and the rows open; Flower's own starts a Python per message. The server's executor runs one run
and ends. Both run the installed apps, and refuse a run that was started with another bundle
(:mod:`fl_assets.federation.deployment.app`).
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fl_assets.config import StrictModel
from fl_assets.federation.deployment import entry

if TYPE_CHECKING:
    from flwr.app import Context, Message
    from flwr.clientapp import ClientApp

    from fl_assets.federation.flower_internals.tasks import Task, Tasks

log = logging.getLogger(__name__)

REFUSED = "this run was started with an app bundle that is not fl_assets': it is not run here"


Half = Literal["site", "server"]


class ExecutorArguments(StrictModel):
    """What an executor needs.

    Attributes:
        half: of the app that it runs.
        announced: file that it writes when it is ready for a task.
        runtime: file with the address of the Runtime API that gives it tasks.
        secret: file with the SuperExec secret of that API.
        ca: file with the certificate of that API's authority; plain HTTP if None.
        terminal: file descriptor for progress, if it is to be shown; the log if None.
    """

    half: Half
    announced: Path
    runtime: Path
    secret: Path
    ca: Path | None = None
    terminal: int | None = None


def main() -> None:
    """Take tasks until killed, or one run."""
    given = entry.begin(ExecutorArguments)
    warm(given.half)
    from fl_assets.federation.flower_internals.tasks import Tasks

    entry.announce(given.announced, "ready")
    ca = None if given.ca is None else given.ca.read_bytes()
    tasks = Tasks(entry.await_announced(given.runtime), given.secret.read_bytes(), ca)
    if given.half == "server":
        sys.exit(serve_run(tasks, given.terminal))
    from fl_assets.federation.client_app import app

    while True:
        serve_message(tasks, app)


def warm(half: Half) -> None:
    """Import what the first message or run would wait for.

    Not torch's compiler, which its optimisers import with their first step and which takes a
    second: most models are trained without them (:mod:`fl_assets.learning.fused`).
    """
    import fl_assets.federation.flower_internals.tasks

    if half == "site":
        import fl_assets.federation.client_app
    else:
        import fl_assets.federation.server_app  # noqa: F401


def serve_message(tasks: Tasks, app: ClientApp) -> None:
    """Answer the next message."""
    from fl_assets.federation.flower_internals.tasks import Kind, TaskLostError

    try:
        task = tasks.take(Kind.SITE)
        message = tasks.message(task)
        context, reply = answer(task, message, app)
        tasks.reply(task, reply)
        tasks.finish(context, error=str(reply.error.reason) if reply.has_error() else "")
    except TaskLostError as error:
        # The run has ended meanwhile.
        log.warning("%s", error)


def answer(task: Task, message: Message, app: ClientApp) -> tuple[Context | None, Message]:
    """Return the reply, and the context with the app's new state where the app did not raise."""
    from flwr.app import Context

    from fl_assets.federation.deployment.app import RunOrder, is_ours
    from fl_assets.federation.flower_internals import client_error
    from fl_assets.federation.flower_internals.tasks import refusal

    if not is_ours(task.bundle_hash):
        log.error(REFUSED)
        return None, refusal(REFUSED, message)
    if message.has_error():
        return None, refusal(message.error.reason or "", message)
    given = task.context
    try:
        context = Context(
            run_id=given.run_id,
            node_id=given.node_id,
            node_config=given.node_config,
            state=given.state,
            run_config=RunOrder.from_wire(task.run_config).config,
        )
        reply = app(message, context)
    except Exception as error:
        log.exception("the app raised")
        return None, client_error(error, message)
    given.state = context.state
    return given, reply


def serve_run(tasks: Tasks, terminal: int | None) -> int:
    """Run the server app for one run; return the process's exit code."""
    from fl_assets.federation.deployment.app import is_ours
    from fl_assets.federation.flower_internals.tasks import Kind

    while not is_ours((task := tasks.take(Kind.SERVER)).bundle_hash):
        log.error(REFUSED)
        tasks.finish(None, error=REFUSED)
    try:
        run_server_app(tasks, task, terminal)
    except Exception as error:
        log.exception("the run failed")
        tasks.finish(None, error=f"{type(error).__name__}: {error}")
        return 1
    tasks.finish(None)
    return 0


def run_server_app(tasks: Tasks, task: Task, terminal: int | None) -> None:
    """Run the server app; it may raise anything."""
    from flwr.app import Context, RecordDict

    from fl_assets.federation.deployment.app import RunOrder
    from fl_assets.federation.deployment.grid import DeployedGrid
    from fl_assets.federation.server_app import app

    order = RunOrder.from_wire(task.run_config)
    context = Context(
        run_id=task.run.run_id,
        node_id=task.context.node_id,
        node_config={},
        state=RecordDict(),
        run_config=order.config,
    )
    grid = DeployedGrid(tasks, task, order.hospitals)
    shown = sys.stderr if terminal is None else os.fdopen(terminal, "w")
    with redirect_stderr(shown):
        app(grid, context)


if __name__ == "__main__":
    main()

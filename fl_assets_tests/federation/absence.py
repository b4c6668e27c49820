"""The in-process run that a run with dropouts is compared with."""

from __future__ import annotations

import pytest
from flwr.app import Context, Message

from fl_assets.errors import FlAssetsError
from fl_assets.federation import client_app
from fl_assets.federation.job import FederationHistory, FederationJob, FederationResult
from fl_assets.federation.runtimes.inprocess import InProcessRuntime
from fl_assets_tests.federation.little import round_of


class AwayError(FlAssetsError):
    """In place of a site that was not there."""


def without_dropouts(
    job: FederationJob, history: FederationHistory, run: str | None = None
) -> FederationResult:
    """Run a job in process, without each site in just the rounds in which it was a dropout.

    Args:
        job: what was run.
        history: of that run.
        run: name of this one, on which noise depends; one of its own in the same stores if None.
    """
    away = {(name, report.round) for report in history.rounds for name in report.dropouts}
    real = client_app.app

    def app(message: Message, context: Context) -> Message:
        training = message.metadata.message_type.startswith("train")
        if training and (context.node_config["hospital"], round_of(message)) in away:
            raise AwayError("away")
        return real(message, context)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client_app, "app", app)
        return InProcessRuntime().run(job.model_copy(update={"run": run or f"{job.run}-reference"}))

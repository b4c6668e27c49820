"""Rounds to MLflow: while a run is under way, without making it wait, or all of them later."""

from __future__ import annotations

import logging
import queue
import threading
import time

from mlflow.entities import Metric
from mlflow.tracking import MlflowClient

from fl_assets.federation.job import FederationHistory
from fl_assets.federation.rounds import Phase, RoundReport
from fl_assets.tracking.runs import reaching

log = logging.getLogger(__name__)

CLOSING_SECONDS = 60.0
"""A sending that is under way and a last one take less, each bounded by MLflow's own timeouts."""

SENDING_SECONDS = 0.5
"""Between two requests; what a person who watches the run does not notice."""

_BATCH = 1000  # metrics that MLflow takes in one request


class RoundLogger:
    """Sends each round's metrics from a thread of its own.

    What cannot be sent is kept and sent with the next round, in order; MLflow being down never
    stops a training. Close it when the run ends, however it ends.
    """

    def __init__(self, tracking_uri: str, run_id: str) -> None:
        self._tracking_uri = tracking_uri
        self._run_id = run_id
        self._rounds: queue.SimpleQueue[list[Metric] | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._worker = threading.Thread(target=self._work, name="mlflow-rounds", daemon=True)
        self._worker.start()

    def __call__(self, report: RoundReport, phase: Phase) -> None:
        """Take a round; returns at once."""
        self._rounds.put(round_metrics(report, phase))

    def close(self) -> None:
        """Wait until every round was sent or given up, ``CLOSING_SECONDS`` at most."""
        self._rounds.put(None)
        self._closing.set()
        self._worker.join(CLOSING_SECONDS)
        if self._worker.is_alive():
            log.warning("MLflow does not answer; the run's history has the metrics it lacks")

    def _work(self) -> None:
        unsent: list[Metric] = []
        last = False
        while not last:
            # All that waits goes at once, so that a slow server is not asked once per round.
            waiting = [self._rounds.get()]
            while not self._rounds.empty():
                waiting.append(self._rounds.get())
            last = None in waiting
            unsent += [metric for metrics in waiting for metric in metrics or ()]
            try:
                _send(self._tracking_uri, self._run_id, unsent)
            except Exception as error:
                # Whatever MLflow's client raises: the figures stay in the run's history.
                log.warning("MLflow took no metrics (%s)", type(error).__name__)
            if not last:
                # Rounds that follow each other faster go together: MLflow's work for a request
                # costs more than that for the metrics in it, and the training shares its cores.
                self._closing.wait(SENDING_SECONDS)
        if unsent:
            log.warning("%d metrics never reached MLflow; the run's history has them", len(unsent))


def replay(history: FederationHistory, tracking_uri: str, run_id: str) -> None:
    """Send all rounds of a finished run, for an MLflow run that was not there while it trained.

    Raises:
        TrackingError: MLflow failed.
    """
    unsent = [
        metric for phase, report in history.by_phase for metric in round_metrics(report, phase)
    ]
    with reaching(tracking_uri):
        _send(tracking_uri, run_id, unsent)


def _send(tracking_uri: str, run_id: str, unsent: list[Metric]) -> None:
    """Send the metrics and remove from the list what was taken."""
    # Made anew each time, since already that can fail or wait.
    client = MlflowClient(tracking_uri=tracking_uri)
    while unsent:
        client.log_batch(run_id, metrics=unsent[:_BATCH])
        del unsent[:_BATCH]


def round_metrics(report: RoundReport, phase: Phase) -> list[Metric]:
    """Return a round as MLflow metrics; what does not exist is left out.

    The step is the round. ``validation_auroc`` is the mean over sites and
    ``hospital-a/validation_auroc`` that hospital's; ``hospital-a/participated`` is 1 or 0, and not
    there for a hospital that was not asked. In pre-training every name begins with
    ``pretraining/``, for its rounds are counted, and its losses measured, on their own.
    """
    figures: dict[str, float | None] = {
        "train_loss": report.train_loss,
        "validation_loss": report.validation_loss,
        "validation_auroc": report.validation_auroc,
        "sites": len(report.sites),
        "dropouts": len(report.dropouts),
        "rejected": len(report.rejected),
        "round_seconds": report.seconds,
        "aggregation_seconds": report.aggregation,
        "gap_seconds": report.gap,
        "bytes_sent": report.sent,
        "bytes_received": report.received,
    }
    for name, site in report.sites.items():
        figures |= {
            f"{name}/train_loss": site.train_loss,
            f"{name}/validation_loss": site.validation_loss,
            f"{name}/validation_auroc": site.validation_auroc,
            f"{name}/seconds": site.seconds,
            f"{name}/participated": 1,
        }
    figures |= {f"{name}/participated": 0 for name in report.dropouts}
    now = int(time.time() * 1000)
    prefix = "" if phase == "training" else f"{phase}/"
    return [
        Metric(prefix + key, float(value), now, report.round)
        for key, value in figures.items()
        if value is not None
    ]

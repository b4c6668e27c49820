"""Rounds to MLflow while a run is under way, without making it wait."""

from __future__ import annotations

import logging
import queue
import threading
import time

from mlflow.entities import Metric
from mlflow.tracking import MlflowClient

from fl_assets.federation.rounds import RoundReport

log = logging.getLogger(__name__)

CLOSING_SECONDS = 60.0
"""A sending that is under way and a last one take less, each bounded by MLflow's own timeouts."""

SENDING_SECONDS = 0.5
"""Between two requests; what a person who watches the run does not notice."""

_BATCH = 1000  # metrics that MLflow takes in one request


class RoundLogger:
    """Sends each round's metrics from a thread of its own.

    What cannot be sent is kept and sent with the next round, in order; MLflow being down never
    stops a training. Close it when the run ends, however it ends. Names: ``validation_auroc`` is
    the mean over sites, and ``hospital-a/validation_auroc`` that hospital's; the step is the round.
    """

    def __init__(self, tracking_uri: str, run_id: str) -> None:
        self._tracking_uri = tracking_uri
        self._run_id = run_id
        self._rounds: queue.SimpleQueue[list[Metric] | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._worker = threading.Thread(target=self._work, name="mlflow-rounds", daemon=True)
        self._worker.start()

    def __call__(self, report: RoundReport) -> None:
        """Take a round; returns at once."""
        self._rounds.put(round_metrics(report))

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
                self._send(unsent)
            except Exception as error:
                # Whatever MLflow's client raises: the figures stay in the run's history.
                log.warning("MLflow took no metrics (%s)", type(error).__name__)
            if not last:
                # Rounds that follow each other faster go together: MLflow's work for a request
                # costs more than that for the metrics in it, and the training shares its cores.
                self._closing.wait(SENDING_SECONDS)
        if unsent:
            log.warning("%d metrics never reached MLflow; the run's history has them", len(unsent))

    def _send(self, unsent: list[Metric]) -> None:
        """Send the metrics and remove from the list what was taken."""
        # Here, since already making a client can fail or wait.
        client = MlflowClient(tracking_uri=self._tracking_uri)
        while unsent:
            client.log_batch(self._run_id, metrics=unsent[:_BATCH])
            del unsent[:_BATCH]


def round_metrics(report: RoundReport) -> list[Metric]:
    """Return a round as MLflow metrics; what does not exist is left out."""
    figures: dict[str, float | None] = {
        "train_loss": report.train_loss,
        "validation_loss": report.validation_loss,
        "validation_auroc": report.validation_auroc,
        "sites": len(report.sites),
        "dropouts": len(report.dropouts),
        "round_seconds": report.seconds,
        "bytes_sent": report.sent,
        "bytes_received": report.received,
    }
    for name, site in report.sites.items():
        figures |= {
            f"{name}/train_loss": site.train_loss,
            f"{name}/validation_loss": site.validation_loss,
            f"{name}/validation_auroc": site.validation_auroc,
            f"{name}/seconds": site.seconds,
        }
    now = int(time.time() * 1000)
    return [Metric(k, float(v), now, report.round) for k, v in figures.items() if v is not None]

"""Rounds to MLflow while a run is under way, without making it wait."""

from __future__ import annotations

import logging
import queue
import threading
import time

from mlflow.entities import Metric
from mlflow.tracking import MlflowClient

from fl_assets.federation.rounds import RoundReport
from fl_assets.tracking import runs as _  # noqa: F401  (bounds MLflow's own retries)

log = logging.getLogger(__name__)


class RoundLogger:
    """Sends each round's metrics from a thread of its own.

    A round that cannot be sent is kept and sent with the next one, in order; MLflow being down
    never stops a training. Close it when the run ends, however it ends. Names:
    ``validation_auroc`` is the mean over sites, and ``hospital-a/validation_auroc`` that
    hospital's; the step is the round.
    """

    def __init__(self, tracking_uri: str, run_id: str) -> None:
        self._client = MlflowClient(tracking_uri=tracking_uri)
        self._run_id = run_id
        self._rounds: queue.SimpleQueue[list[Metric] | None] = queue.SimpleQueue()
        self._worker = threading.Thread(target=self._send, name="mlflow-rounds", daemon=True)
        self._worker.start()

    def __call__(self, report: RoundReport) -> None:
        """Take a round; returns at once."""
        self._rounds.put(round_metrics(report))

    def close(self) -> None:
        """Wait until every round was sent or given up."""
        self._rounds.put(None)
        self._worker.join()

    def _send(self) -> None:
        unsent: list[Metric] = []
        last = False
        while not last:
            metrics = self._rounds.get()
            last = metrics is None
            unsent += metrics or []
            try:
                for start in range(0, len(unsent), 1000):
                    self._client.log_batch(self._run_id, metrics=unsent[start : start + 1000])
                unsent = []
            except Exception as error:
                # Whatever MLflow's client raises: the figures stay in the run's history.
                log.warning("MLflow took no metrics (%s); kept for later", type(error).__name__)
        if unsent:
            log.warning("%d metrics never reached MLflow; the run's history has them", len(unsent))


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

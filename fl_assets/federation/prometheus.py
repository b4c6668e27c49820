"""A run's figures for Prometheus, served by the server process while the run lasts."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from fl_assets.federation.rounds import Phase, RoundReport

log = logging.getLogger(__name__)

HOST = "127.0.0.1"

_SECONDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)  # in process to deployed


class RoundMetrics:
    """Counts what happens in the rounds that this process sees.

    After a resumption the counters begin at 0 again, as those of any process that is started
    anew; ``rate()`` copes with that.

    Args:
        recipe, run: labels of every metric.
        hospitals: so that a hospital's counters are there before its first failure.

    Attributes:
        registry: of these metrics alone.
    """

    def __init__(self, recipe: str, run: str, hospitals: Iterable[str]) -> None:
        self.registry = CollectorRegistry()
        self._labels = {"recipe": recipe, "run": run}
        self._rounds = self._counter("fl_rounds", "Rounds done", "phase")
        self._sent = self._counter("fl_bytes_sent", "Bytes of arrays to the sites", "phase")
        self._received = self._counter("fl_bytes_received", "Bytes of arrays from them", "phase")
        self._rejected = self._counter(
            "fl_update_rejected", "Updates that must not count", "hospital"
        )
        self._dropouts = self._counter(
            "fl_dropouts", "Rounds that a site was asked for and does not count in", "hospital"
        )
        self._sites = self._gauge("fl_sites_active", "Sites that count in the last round", "phase")
        self._loss = self._gauge("fl_train_loss", "Mean over the sites", "phase")
        self._auroc = self._gauge("fl_global_auroc", "Of the model that the last round began with")
        self._duration = Histogram(
            "fl_round_duration_seconds",
            "From the first message out to the new global model",
            (*self._labels, "phase"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        for hospital in hospitals:
            self._rejected.labels(**self._labels, hospital=hospital)
            self._dropouts.labels(**self._labels, hospital=hospital)

    def __call__(self, report: RoundReport, phase: Phase) -> None:
        """Take a round."""
        labels = self._labels | {"phase": phase}
        self._rounds.labels(**labels).inc()
        self._sent.labels(**labels).inc(report.sent)
        self._received.labels(**labels).inc(report.received)
        self._sites.labels(**labels).set(len(report.sites))
        self._duration.labels(**labels).observe(report.seconds)
        for hospital in report.dropouts:
            self._dropouts.labels(**self._labels, hospital=hospital).inc()
        for hospital in report.rejected:
            self._rejected.labels(**self._labels, hospital=hospital).inc()
        if report.train_loss is not None:
            self._loss.labels(**labels).set(report.train_loss)
        if report.validation_auroc is not None:
            self._auroc.labels(**self._labels).set(report.validation_auroc)

    def _counter(self, name: str, text: str, label: str) -> Counter:
        return Counter(name, text, (*self._labels, label), registry=self.registry)

    def _gauge(self, name: str, text: str, *label: str) -> Gauge:
        return Gauge(name, text, (*self._labels, *label), registry=self.registry)


@dataclass(frozen=True)
class TlsEndpoint:
    """Where other machines may read metrics.

    Attributes:
        host: IP address to listen on.
        certificate, key: PEM files of the server there.
    """

    host: str
    certificate: str
    key: str


@contextmanager
def serving(metrics: RoundMetrics, port: int, public: TlsEndpoint | None = None) -> Iterator[None]:
    """Serve metrics for as long as the block lasts.

    Plain HTTP on this machine's loopback, or TLS where other machines may read them. A port that
    cannot be had is a warning, for a training is worth more than its metrics.

    Args:
        metrics: to serve.
        port: to listen on.
        public: where, and by which certificate; loopback alone if None.
    """
    host = HOST if public is None else public.host
    certificate, key = (None, None) if public is None else (public.certificate, public.key)
    try:
        server, thread = start_http_server(
            port, host, metrics.registry, certfile=certificate, keyfile=key
        )
    except OSError as error:
        log.warning(
            "no Prometheus metrics for this run, %s:%d cannot be had (%s): choose another "
            "metrics_port",
            host,
            port,
            error.strerror,
        )
        yield
        return
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

"""Flower's strategies with what a consortium adds: order, quorum, dropouts, a report a round."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg, FedProx, Strategy

from fl_assets.federation import rounds
from fl_assets.federation.job import FederationError, FinalReport
from fl_assets.federation.recipe import Recipe
from fl_assets.federation.rounds import RoundObserver, RoundReport, SiteReport
from fl_assets.federation.strategies.configs import FedProxConfig

NO_REPLY = "no reply before the round's deadline"
_UPDATE_IT = "bring its software up to date"

Report = TypeVar("Report")


class TooFewSitesError(FederationError):
    """The run has fewer sites than its quorum."""

    def __init__(self, sites: int, quorum: int) -> None:
        super().__init__(
            f"the run has {sites} sites and needs {quorum}: bring hospitals in, or lower `quorum` "
            "in the recipe"
        )


class QuorumNotReachedError(FederationError):
    """Fewer sites than the recipe's quorum delivered an update in a round."""

    def __init__(self, round_: int, delivered: int, quorum: int, dropouts: dict[str, str]) -> None:
        causes = "; ".join(f"{name}: {cause}" for name, cause in sorted(dropouts.items()))
        super().__init__(
            f"round {round_}: {delivered} sites delivered an update, the quorum is {quorum} "
            f"({causes}): put that right, or lower `quorum` in the recipe"
        )
        self.dropouts = dropouts


class BadReplyError(FederationError):
    """A site's reply that must not count."""


def build_strategy(recipe: Recipe, sites: int) -> Strategy:
    """Return Flower's strategy for a recipe over so many sites.

    Raises:
        TooFewSitesError: fewer than the quorum, for which Flower would wait for ever.
    """
    quorum = recipe.quorum or max(sites, 1)
    if sites < quorum:
        raise TooFewSitesError(sites, quorum)
    asked = recipe.strategy
    strategy = FedProx(proximal_mu=asked.mu) if isinstance(asked, FedProxConfig) else FedAvg()
    strategy.min_train_nodes = strategy.min_evaluate_nodes = quorum
    strategy.min_available_nodes = quorum
    return strategy


class ConsortiumStrategy(Strategy):
    """Any of Flower's strategies, run over named hospitals.

    Replies are aggregated in the order of the hospitals' names, since float sums depend on
    order. A site that fails, is late or sends what cannot be an update of this model is a dropout
    of the round, with its cause. The evaluate wave runs after the last round only; before that a
    site validates the model it was sent along with training, which saves a wave per round.

    Args:
        inner: does the aggregation.
        recipe: for quorum and number of rounds.
        hospitals: name by node id.
        observers: are told of each round.

    Attributes:
        reports: of the rounds so far.
        final: the last model's validation, by hospital.
    """

    def __init__(
        self,
        inner: Strategy,
        recipe: Recipe,
        hospitals: dict[int, str],
        observers: Sequence[RoundObserver] = (),
    ) -> None:
        self._inner = inner
        self._recipe = recipe
        self._quorum = recipe.quorum or len(hospitals)
        self._hospitals = hospitals
        self._observers = observers
        self._asked: list[str] = []
        self._global = ArrayRecord()
        self._started = 0.0
        self.reports: list[RoundReport] = []
        self.final: dict[str, FinalReport] = {}

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Address the round's messages."""
        self._started = time.perf_counter()
        self._global = arrays
        return self._address(self._inner.configure_train(server_round, arrays, config, grid))

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Aggregate the updates that arrived.

        Raises:
            QuorumNotReachedError: too few arrived.
        """
        delivered, sites, dropouts = self._sort(replies, self._read_update)
        if len(delivered) < self._quorum:
            raise QuorumNotReachedError(server_round, len(delivered), self._quorum, dropouts)
        arrays, metrics = self._inner.aggregate_train(server_round, delivered)
        report = RoundReport(
            round=server_round,
            rounds=self._recipe.rounds,
            sites=sites,
            dropouts=dropouts,
            seconds=time.perf_counter() - self._started,
            aggregation=0.0,
            gap=None,
            sent=_size(self._global) * len(self._asked),
            received=sum(_size(r.content.array_records[rounds.ARRAYS]) for r in delivered),
        )
        self.reports.append(report)
        for observe in self._observers:
            observe(report)
        return arrays, metrics

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask for the last model's validation, once."""
        if server_round < self._recipe.rounds:
            return []
        return self._address(self._inner.configure_evaluate(server_round, arrays, config, grid))

    def aggregate_evaluate(
        self,
        server_round: int,  # noqa: ARG002  (Flower's signature)
        replies: Iterable[Message],
    ) -> MetricRecord | None:
        """Keep each site's validation of the last model; a site that fails has none."""
        self.final |= self._sort(replies, _read_final)[1]
        return None

    def summary(self) -> None:
        """Log the inner strategy's summary."""
        self._inner.summary()

    def _address(self, messages: Iterable[Message]) -> list[Message]:
        """Note who is asked; in the order of names, which Flower's sampling shuffles."""
        by_name = {self._hospitals[m.metadata.dst_node_id]: m for m in messages}
        self._asked = sorted(by_name)
        return [by_name[name] for name in self._asked]

    def _sort(
        self, replies: Iterable[Message], read: Callable[[Message], Report]
    ) -> tuple[list[Message], dict[str, Report], dict[str, str]]:
        """Return the good replies and their reports, in the order of names, and the dropouts."""
        by_name = {self._hospitals[reply.metadata.src_node_id]: reply for reply in replies}
        delivered: list[Message] = []
        reports: dict[str, Report] = {}
        dropouts = {name: NO_REPLY for name in self._asked if name not in by_name}
        for name in sorted(by_name):
            reply = by_name[name]
            if reply.has_error():
                dropouts[name] = reply.error.reason or "failed without a reason"
                continue
            try:
                reports[name] = read(reply)
            except BadReplyError as error:
                dropouts[name] = str(error)
            else:
                delivered.append(reply)
        return delivered, reports, dropouts

    def _read_update(self, reply: Message) -> SiteReport:
        records = reply.content.array_records
        if set(records) != {rounds.ARRAYS} or _shapes(records[rounds.ARRAYS]) != _shapes(
            self._global
        ):
            raise BadReplyError(f"its update is of another model: {_UPDATE_IT}")
        if not all(np.isfinite(array.numpy()).all() for array in records[rounds.ARRAYS].values()):
            raise BadReplyError(
                "its update is not finite, training diverged: lower the learning rate"
            )
        figures = _figures(reply, rounds.UPDATE_METRICS)
        about = reply.content.config_records.get(rounds.ABOUT, ConfigRecord())
        if figures[rounds.EXAMPLES] < 1 or rounds.PARTITIONS not in about:
            raise BadReplyError(f"its update does not say which rows it is from: {_UPDATE_IT}")
        return SiteReport(
            examples=int(figures[rounds.EXAMPLES]),
            train_loss=figures[rounds.TRAIN_LOSS],
            validation_examples=int(figures[rounds.VALIDATION_EXAMPLES]),
            validation_loss=rounds.from_wire(figures[rounds.VALIDATION_LOSS]),
            validation_auroc=rounds.from_wire(figures[rounds.VALIDATION_AUROC]),
            seconds=figures[rounds.SECONDS],
            partitions=str(about[rounds.PARTITIONS]),
        )


def _read_final(reply: Message) -> FinalReport:
    figures = _figures(reply, rounds.EVALUATION_METRICS)
    return FinalReport(
        examples=int(figures[rounds.VALIDATION_EXAMPLES]),
        loss=rounds.from_wire(figures[rounds.VALIDATION_LOSS]),
        auroc=rounds.from_wire(figures[rounds.VALIDATION_AUROC]),
        threshold=rounds.from_wire(figures[rounds.THRESHOLD]),
    )


def _figures(reply: Message, expected: frozenset[str]) -> dict[str, float]:
    """Return a reply's metrics; Flower gives up the whole run where sites send different ones."""
    records = reply.content.metric_records
    sent = records[rounds.METRICS] if set(records) == {rounds.METRICS} else MetricRecord()
    figures = {name: float(value) for name, value in sent.items() if not isinstance(value, list)}
    if figures.keys() != expected or len(sent) != len(expected):
        raise BadReplyError(f"its figures are not the ones asked for: {_UPDATE_IT}")
    return figures


def _shapes(arrays: ArrayRecord) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {name: (array.dtype, tuple(array.shape)) for name, array in arrays.items()}


def _size(arrays: ArrayRecord) -> int:
    return sum(len(array.data) for array in arrays.values())

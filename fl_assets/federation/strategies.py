"""Flower's strategies with what a consortium adds: order, quorum, dropouts, a report a round."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg, FedProx, Strategy

from fl_assets.federation import rounds
from fl_assets.federation.job import FederationError, FinalReport
from fl_assets.federation.recipe import FedProxConfig, Recipe
from fl_assets.federation.rounds import RoundObserver, RoundReport, SiteReport

NO_REPLY = "no reply before the round's deadline"


class QuorumNotReachedError(FederationError):
    """Fewer sites than the recipe's quorum delivered an update in a round."""

    def __init__(self, round_: int, delivered: int, quorum: int, dropouts: dict[str, str]) -> None:
        causes = "; ".join(f"{name}: {cause}" for name, cause in sorted(dropouts.items()))
        super().__init__(
            f"round {round_}: {delivered} sites delivered an update, the quorum is {quorum} "
            f"({causes}): mend those sites, or lower `quorum` in the recipe"
        )
        self.dropouts = dropouts


def build_strategy(recipe: Recipe, sites: int) -> Strategy:
    """Return Flower's strategy for a recipe over so many sites."""
    quorum = recipe.quorum or sites
    common = {"min_train_nodes": quorum, "min_evaluate_nodes": quorum}
    if isinstance(recipe.strategy, FedProxConfig):
        return FedProx(min_available_nodes=quorum, proximal_mu=recipe.strategy.mu, **common)
    return FedAvg(min_available_nodes=quorum, **common)


class ConsortiumStrategy(Strategy):
    """Any of Flower's strategies, run over named hospitals.

    Replies are aggregated in the order of the hospitals' names, since float sums depend on
    order. A site that fails or is late is a dropout of the round, with its cause. The evaluate
    wave runs after the last round only; before that a site validates the model it was sent along
    with training, which saves a wave per round.

    Args:
        inner: does the aggregation.
        recipe: for quorum and number of rounds.
        hospitals: name by node id.
        observers: are told of each round.
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
        self._sent = 0
        self._started = 0.0
        self.reports: list[RoundReport] = []
        self.final: dict[str, FinalReport] = {}

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Address the round's messages."""
        self._started = time.perf_counter()
        messages = list(self._inner.configure_train(server_round, arrays, config, grid))
        self._asked = [self._hospitals[m.metadata.dst_node_id] for m in messages]
        self._sent = _size(arrays) * len(messages)
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Aggregate the updates that arrived.

        Raises:
            QuorumNotReachedError: too few arrived.
        """
        delivered, dropouts = self._sort(replies)
        if len(delivered) < self._quorum:
            raise QuorumNotReachedError(server_round, len(delivered), self._quorum, dropouts)
        sites = {name: _site_report(reply) for name, reply in delivered.items()}
        received = sum(_size(r.content.array_records[rounds.ARRAYS]) for r in delivered.values())
        for reply in delivered.values():
            del reply.content[rounds.ABOUT]
        arrays, metrics = self._inner.aggregate_train(server_round, list(delivered.values()))
        report = RoundReport(
            round=server_round,
            rounds=self._recipe.rounds,
            sites=sites,
            dropouts=dropouts,
            seconds=time.perf_counter() - self._started,
            sent=self._sent,
            received=received,
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
        return self._inner.configure_evaluate(server_round, arrays, config, grid)

    def aggregate_evaluate(
        self,
        server_round: int,  # noqa: ARG002  (Flower's signature)
        replies: Iterable[Message],
    ) -> MetricRecord | None:
        """Keep each site's validation of the last model; a site that fails has none."""
        for name, reply in self._sort(replies)[0].items():
            metrics = reply.content.metric_records[rounds.METRICS]
            self.final[name] = FinalReport(
                examples=int(_number(metrics, rounds.VALIDATION_EXAMPLES)),
                loss=rounds.from_wire(_number(metrics, rounds.VALIDATION_LOSS)),
                auroc=rounds.from_wire(_number(metrics, rounds.VALIDATION_AUROC)),
                threshold=rounds.from_wire(_number(metrics, rounds.THRESHOLD)),
            )
        return None

    def summary(self) -> None:
        """Log the inner strategy's summary."""
        self._inner.summary()

    def _sort(self, replies: Iterable[Message]) -> tuple[dict[str, Message], dict[str, str]]:
        """Return the good replies by hospital, in the order of names, and the dropouts."""
        by_name = {self._hospitals[reply.metadata.src_node_id]: reply for reply in replies}
        delivered: dict[str, Message] = {}
        dropouts = {name: NO_REPLY for name in self._asked if name not in by_name}
        for name in sorted(by_name):
            if by_name[name].has_error():
                dropouts[name] = by_name[name].error.reason or "failed without a reason"
            else:
                delivered[name] = by_name[name]
        return delivered, dropouts


def _site_report(reply: Message) -> SiteReport:
    metrics = reply.content.metric_records[rounds.METRICS]
    about = reply.content.config_records[rounds.ABOUT]
    return SiteReport(
        examples=int(_number(metrics, rounds.EXAMPLES)),
        train_loss=_number(metrics, rounds.TRAIN_LOSS),
        validation_examples=int(_number(metrics, rounds.VALIDATION_EXAMPLES)),
        validation_loss=rounds.from_wire(_number(metrics, rounds.VALIDATION_LOSS)),
        validation_auroc=rounds.from_wire(_number(metrics, rounds.VALIDATION_AUROC)),
        seconds=_number(metrics, rounds.SECONDS),
        partitions=str(about[rounds.PARTITIONS]),
    )


def _number(metrics: MetricRecord, key: str) -> float:
    value = metrics[key]
    if isinstance(value, list):
        raise FederationError(f"a site sent a list as {key!r}; its software is of another version")
    return float(value)


def _size(arrays: ArrayRecord) -> int:
    return sum(len(array.data) for array in arrays.values())

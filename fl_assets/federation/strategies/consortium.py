"""Flower's strategies with what a consortium adds: order, quorum, dropouts, a report a round."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import cast

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from numpy.typing import NDArray

from fl_assets.errors import BadDataError
from fl_assets.federation import rounds
from fl_assets.federation.job import FederationError, FinalReport
from fl_assets.federation.recipe import Recipe
from fl_assets.federation.rounds import RoundObserver, RoundReport
from fl_assets.federation.statement import PrivacyStatement
from fl_assets.federation.strategies.attendance import Attendance
from fl_assets.federation.strategies.averaging import IterateMean
from fl_assets.federation.strategies.hygiene import (
    Update,
    check_norms,
    read_evaluation,
    read_masked_update,
    read_statement,
    read_update,
)
from fl_assets.federation.strategies.secure import SecureRound
from fl_assets.federation.strategies.wave import Read, Wave
from fl_assets.privacy.dpsgd import DeltaTooLargeError, TooFewRowsError
from fl_assets.privacy.ledger import BudgetExceededError, UnprotectedRunError
from fl_assets.privacy.ledger_chain import LedgerDamagedError

NOT_ONLINE = "not online"

# A site's error arrives as text, its type first.
_FOR_GOOD = tuple(
    f"{error.__name__}:"
    for error in (
        BudgetExceededError,
        UnprotectedRunError,
        LedgerDamagedError,
        TooFewRowsError,
        DeltaTooLargeError,
    )
)

OnModel = Callable[[int, ArrayRecord, Sequence[RoundReport]], None]
"""Takes a round's number, its global model and the reports so far."""
OnReserved = Callable[[Mapping[str, PrivacyStatement]], None]
"""Takes what each hospital says after it has set aside what a private run may cost."""


class QuorumNotReachedError(FederationError):
    """Fewer sites than the recipe's quorum delivered an update in a round."""

    def __init__(self, round_: int, delivered: int, quorum: int, dropouts: dict[str, str]) -> None:
        super().__init__(self._message(round_, delivered, quorum, dropouts))
        self.dropouts = dropouts

    @staticmethod
    def _message(round_: int, delivered: int, quorum: int, dropouts: dict[str, str]) -> str:
        causes = "; ".join(f"{name}: {cause}" for name, cause in sorted(dropouts.items()))
        return (
            f"round {round_}: {delivered} sites delivered an update, the quorum is {quorum} "
            f"({causes}): put that right, or lower `quorum` in the recipe"
        )


class SitesRefuseError(QuorumNotReachedError, BadDataError):
    """So many sites refuse for good that no retry can reach the quorum."""

    @staticmethod
    def _message(round_: int, delivered: int, quorum: int, dropouts: dict[str, str]) -> str:  # noqa: ARG004
        final = {n: c for n, c in sorted(dropouts.items()) if c.startswith(_FOR_GOOD)}
        lines = (f"{name}: {_in_words(name, cause)}" for name, cause in final.items())
        return (
            f"round {round_} is refused by {', '.join(final)}, so the quorum of {quorum} cannot be "
            "reached:\n" + "\n".join(lines)
        )


def _in_words(hospital: str, cause: str) -> str:
    """Return a site's error without its type, and without the name that stands before it."""
    return cause.partition(": ")[2].removeprefix(f"{hospital}: ")


class ServerDivergedError(FederationError):
    """The server's own step led to weights that are not finite."""

    def __init__(self, round_: int) -> None:
        super().__init__(
            f"round {round_}: finite updates gave a global model that is not: lower `server_lr` in "
            "the recipe's strategy"
        )


class _Nodes:
    """All that Flower's strategies see of a grid while they address a round's messages.

    On the real one they would wait for ever for a hospital that is gone.
    """

    def __init__(self, asked: Mapping[str, int]) -> None:
        self._ids = list(asked.values())

    def get_node_ids(self) -> list[int]:
        return self._ids


class ConsortiumStrategy(Strategy):
    """Any of Flower's strategies, run over named hospitals.

    Replies are aggregated in the order of the hospitals' names, since float sums depend on
    order. A site that is away, fails, is late or sends what must not count is a dropout of the
    round, with its cause. The evaluate wave runs after the last round only; before that a site
    validates the model it was sent along with training, which saves a wave per round.

    Where the recipe asks for secure aggregation, what is aggregated is one reply: the mean of all
    updates, taken off their masked sum (:mod:`fl_assets.federation.strategies.secure`).

    Call ``start`` with ``num_rounds=rounds - done``; whoever sees a round sees it as 1 to
    ``rounds``. Where ``done`` is all of them, the evaluate wave is
    ``configure_evaluate(0, ...)`` and ``aggregate_evaluate(0, ...)``.

    Args:
        inner: does the aggregation; of ``build_strategy``.
        recipe: for quorum, fraction, deadline, norm bound, seed and whether sums are masked.
        run: name of the run, which every message bears.
        hospitals: name by node id, of the whole run. One that is away now may come back; one that
            joins later is taken up.
        observers: are told of each round.
        done: rounds completed before, by a run that this one goes on from.
        on_model: is given each new global model, before the observers are told: what they have
            heard of survives a crash.
        on_reserved: is told before any site trains, so that a ledger which is put back while the
            run lasts is found out.
        rounds: of this phase; the recipe's if None.
        action: of the train messages' type in a phase of its own, as in ``train.pretrain``; such
            a phase has no evaluate wave.
        mean: of the last global models; the last one alone if None.

    Attributes:
        reports: of the rounds so far, those done before not among them.
        final: the last model's validation, by hospital.
    """

    def __init__(
        self,
        inner: Strategy,
        recipe: Recipe,
        run: str,
        hospitals: Mapping[int, str],
        observers: Sequence[RoundObserver] = (),
        *,
        done: int = 0,
        on_model: OnModel | None = None,
        on_reserved: OnReserved | None = None,
        rounds: int | None = None,
        action: str | None = None,
        mean: IterateMean | None = None,
    ) -> None:
        self._inner = inner
        self._recipe = recipe
        self._run = run
        self._attendance = Attendance(recipe, hospitals)
        self._observers = observers
        self._done = done
        self._on_model = on_model
        self._on_reserved = on_reserved
        self._rounds = recipe.rounds if rounds is None else rounds
        self._action = action
        self._mean = mean or IterateMean(self._rounds, last=1)
        self._secure: SecureRound | None = None
        self._reserved = False
        self._absent: dict[str, str] = {}
        self._global: dict[str, NDArray[np.generic]] = {}
        self._size = 0
        self._started = 0.0
        self._gap: float | None = None
        self._arrived: float | None = None
        self.reports: list[RoundReport] = []
        self.final: dict[str, FinalReport] = {}

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Address the round's messages to the hospitals that are there.

        Raises:
            QuorumNotReachedError: too few came online before the round's deadline, have budget
                left for a private run, or are ready for a masked sum.
            SecureSumFailedError: too few for a masked sum are.
        """
        round_ = self._done + server_round
        online = self._attendance.gather(grid)
        self._absent = dict.fromkeys(self._attendance.hospitals - online.keys(), NOT_ONLINE)
        if len(online) < self._attendance.quorum:
            raise QuorumNotReachedError(round_, 0, self._attendance.quorum, self._absent)
        asked = self._attendance.draw(online, round_)
        messages = self._inner.configure_train(round_, arrays, config, _nodes(asked))
        self._wave = self._address(messages, round_)
        self._global = {name: array.numpy() for name, array in arrays.items()}
        self._size = _size(arrays)
        self._started = time.perf_counter()
        self._gap = None if self._arrived is None else self._started - self._arrived
        if self._recipe.privacy is not None and not self._reserved:
            self._reserve(grid, round_)
        if (masks := self._recipe.secure_aggregation) is not None:
            self._secure = SecureRound(masks, self._wave, grid, self._recipe.round_deadline)
            if len(self._wave.sent) < self._attendance.quorum:
                raise self._quorum_missed(round_, 0)
        return self._wave.messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Aggregate the updates that count.

        Raises:
            QuorumNotReachedError: too few do.
            SecureSumFailedError: their masked sum cannot be unmasked.
            MeanTooLargeError: the mean of masked updates is beyond the absolute norm bound.
            ServerDivergedError: the new global model is not finite.
        """
        self._arrived = time.perf_counter()
        round_ = self._done + server_round
        updates = self._updates(replies)
        if len(updates) < self._attendance.quorum:
            raise self._quorum_missed(round_, len(updates))
        if self._secure is not None:
            self._secure.reveal(updates)
            self._arrived = time.perf_counter()
        secure = self._secure
        # Before Flower's median and trimmed mean, which empty the updates.
        received = sum(_size(update.arrays) for update in updates.values())
        aggregate, metrics = self._inner.aggregate_train(round_, self._counted(updates))
        arrays = self._mean_of_last(self._as_sent(cast(ArrayRecord, aggregate), round_), round_)
        ended = time.perf_counter()
        report = RoundReport(
            round=round_,
            rounds=self._rounds,
            sites={name: update.site for name, update in updates.items()},
            dropouts=self._dropouts(),
            rejected=tuple(sorted(self._wave.rejected)),
            seconds=ended - self._started,
            aggregation=ended - self._arrived,
            gap=self._gap,
            sent=self._size * len(self._wave.sent) + (secure.sent if secure else 0),
            received=received + (secure.received if secure else 0),
        )
        self.reports.append(report)
        if self._on_model is not None:
            self._on_model(round_, arrays, self.reports)
        for observe in self._observers:
            observe(report)
        return arrays, metrics

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask every hospital that is there for the last model's validation, once."""
        round_ = self._done + server_round
        last = round_ == self._rounds and not self._action
        messages: Iterable[Message] = []
        if last and (online := self._attendance.online(grid)):
            messages = self._inner.configure_evaluate(round_, arrays, config, _nodes(online))
        self._wave = self._address(messages, round_)
        return self._wave.messages

    def aggregate_evaluate(
        self,
        server_round: int,  # noqa: ARG002  (Flower's signature)
        replies: Iterable[Message],
    ) -> MetricRecord | None:
        """Keep each site's validation of the last model; a site that fails has none."""
        self.final |= self._wave.receive(replies, read_evaluation)
        return None

    def summary(self) -> None:
        """Log the inner strategy's summary."""
        self._inner.summary()

    def _address(self, messages: Iterable[Message], round_: int) -> Wave:
        return Wave(messages, self._attendance.names, self._run, round_, self._action)

    def _updates(self, replies: Iterable[Message]) -> dict[str, Update]:
        withheld = self._recipe.privacy is not None
        if self._secure is not None:
            size = sum(weights.size for weights in self._global.values())
            return self._wave.receive(
                replies, lambda reply: read_masked_update(reply, size, withheld=withheld)
            )
        updates = self._wave.receive(
            replies, lambda reply: read_update(reply, self._global, withheld=withheld)
        )
        norms = {name: update.norm for name, update in updates.items()}
        for name, error in check_norms(norms, self._recipe.norm_bound).items():
            self._wave.reject(name, error)
            del updates[name]
        for name, update in updates.items():
            # In the global model's order: FedAvgM and Krum go by the position of an array.
            self._wave.replies[name].content[rounds.ARRAYS] = update.arrays
        return updates

    def _counted(self, updates: Mapping[str, Update]) -> list[Message]:
        """Return the replies that are averaged: of a masked sum one, with all the rows."""
        if self._secure is None:
            return list(self._wave.replies.values())
        bound = self._recipe.norm_bound.absolute
        return [self._secure.mean(updates, self._global, bound)]

    def _reserve(self, grid: Grid, round_: int) -> None:
        """Have the sites reserve before any of them trains.

        One that refuses must not cost the others a part of their budgets: where the run is
        hopeless they get back what they have set aside.
        """
        asked, statements = self._ask("reserve", grid, read_statement)
        if self._on_reserved is not None:
            self._on_reserved(statements)
        self._wave.leave_out(asked.dropouts, asked.rejected)
        if len(self._wave.sent) < self._attendance.quorum:
            error = self._quorum_missed(round_, 0)
            if isinstance(error, SitesRefuseError):
                self._ask("close", grid, lambda _reply: None)
            raise error
        self._reserved = True

    def _ask(
        self, action: str, grid: Grid, read: Callable[[Message], Read]
    ) -> tuple[Wave, dict[str, Read]]:
        wave = self._wave.query(action, {}, self._wave.sent)
        replies = grid.send_and_receive(wave.messages, timeout=self._recipe.round_deadline)
        return wave, wave.receive(replies, read)

    def _quorum_missed(self, round_: int, delivered: int) -> QuorumNotReachedError:
        dropouts, quorum = self._dropouts(), self._attendance.quorum
        refused = sum(cause.startswith(_FOR_GOOD) for cause in dropouts.values())
        hopeless = len(self._attendance.hospitals) - refused < quorum
        error = SitesRefuseError if hopeless else QuorumNotReachedError
        return error(round_, delivered, quorum, dropouts)

    def _dropouts(self) -> dict[str, str]:
        return self._absent | self._wave.dropouts

    def _mean_of_last(self, arrays: ArrayRecord, round_: int) -> ArrayRecord:
        if not self._mean.averages(round_):
            return arrays
        taken = self._mean.take(round_, {name: array.numpy() for name, array in arrays.items()})
        return ArrayRecord({name: Array(value) for name, value in taken.items()})

    def _as_sent(self, arrays: ArrayRecord, round_: int) -> ArrayRecord:
        """Return a new global model in the types of the last; FedAdam's and Krum's are float64."""
        found: dict[str, Array] = {}
        for name, last in self._global.items():
            value = arrays[name].numpy()
            typed = value.astype(last.dtype, copy=False)
            if not np.isfinite(typed).all():
                raise ServerDivergedError(round_)
            found[name] = arrays[name] if typed is value else Array(typed)
        return ArrayRecord(found)


def _nodes(asked: Mapping[str, int]) -> Grid:
    return cast(Grid, _Nodes(asked))


def _size(arrays: ArrayRecord) -> int:
    return sum(len(array.data) for array in arrays.values())

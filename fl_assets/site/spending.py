"""What a hospital does about its privacy budget in one run.

All steps of all rounds are reserved before a row is read. An answer is stored before it leaves, so
a round that is asked again, as after a crash of either side, gets the stored one: no new noise is
drawn, nothing new is released and nothing is charged twice. What is stored is at least what left,
and the run is settled by it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fl_assets.consortium import PrivacyBudget
from fl_assets.errors import BadDataError
from fl_assets.learning.weights import Weights
from fl_assets.privacy import accounting
from fl_assets.privacy.configs import PrivacyConfig
from fl_assets.privacy.events import MechanismEvent
from fl_assets.privacy.ledger import Ledger
from fl_assets.privacy.ledger_balance import (
    Balance,
    NoReservationError,
    OtherEventsError,
    RunClosedError,
)
from fl_assets.privacy.ledger_entries import LedgerHead
from fl_assets.site.egress import EgressLog
from fl_assets.storage import ObjectExistsError, ObjectNotFoundError, SiteStore


class OtherWeightsError(BadDataError):
    """A round was asked again from other weights than the first time."""

    def __init__(self, hospital: str, run: str, round_: int) -> None:
        super().__init__(
            f"{hospital} answered round {round_} of run {run} from other weights before; a second "
            "answer would cost steps that were not reserved: give the training a new run name"
        )


class RoundNotReservedError(BadDataError):
    """A round beyond those that were reserved."""

    def __init__(self, hospital: str, run: str, round_: int, rounds: int) -> None:
        super().__init__(
            f"{hospital} reserved rounds 1 to {rounds} of run {run}, not round {round_}: bring "
            "server and site to the same recipe"
        )


@dataclass(frozen=True)
class Answer:
    """A noised update.

    Attributes:
        arrays: by parameter name, float32.
        examples: training rows, which is public.
    """

    arrays: Weights
    examples: int


class _Stored(NamedTuple):
    """An answer as it is stored, with the digest of the weights it is from and its steps."""

    answer: Answer
    asked: bytes
    steps: int

    def to_bytes(self) -> bytes:
        arrays = {f"arrays/{name}": array for name, array in self.answer.arrays.items()}
        buffer = io.BytesIO()
        np.savez(
            buffer,
            allow_pickle=False,
            asked=np.frombuffer(self.asked, np.uint8),
            figures=np.array([self.answer.examples, self.steps], np.int64),
            **arrays,
        )
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> _Stored:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            names = [name for name in archive.files if name.startswith("arrays/")]
            arrays = {name.removeprefix("arrays/"): archive[name] for name in names}
            examples, steps = archive["figures"].tolist()
            return cls(Answer(arrays, examples), archive["asked"].tobytes(), steps)


class _Answers:
    """The stored answers of a run, and the mark that it takes no more.

    An answer is stored, then the mark is looked for, then it leaves; closing sets the mark, then
    counts. So of an answer that races with the closing it is counted or it does not leave.
    """

    def __init__(self, store: SiteStore, run: str) -> None:
        self._store = store
        self._run = run
        # The mark stays for good: a process that is very late must still find it.
        self._mark = f"answers/{run}/closed"
        self._folder = f"answers/{run}/rounds/"

    def load(self, round_: int) -> _Stored | None:
        try:
            return _Stored.from_bytes(self._store.get(self._key(round_)))
        except ObjectNotFoundError:
            return None

    def keep(self, round_: int, stored: _Stored) -> _Stored:
        """Store an answer durably, and return the one that a racing process stored first."""
        data = stored.to_bytes()
        try:
            self._store.put_if_absent(self._key(round_), data)
        except ObjectExistsError:
            data = self._store.get(self._key(round_))
        return _Stored.from_bytes(data)

    def check_open(self) -> None:
        if self._store.exists(self._mark):
            raise RunClosedError(self._run)

    def close(self) -> tuple[int, int]:
        """Take no more answers, and return how many there are and their steps in all."""
        with suppress(ObjectExistsError):
            self._store.put_if_absent(self._mark, b"")
        stored = self._keys()
        # Every round of a run has as many steps.
        each = _Stored.from_bytes(self._store.get(stored[0])).steps if stored else 0
        return len(stored), each * len(stored)

    def delete(self) -> None:
        for key in self._keys():
            self._store.delete(key)

    def _key(self, round_: int) -> str:
        return f"{self._folder}{round_:06d}.npz"

    def _keys(self) -> list[str]:
        return [info.key for info in self._store.list(self._folder)]


class RunSpending:
    """A hospital's privacy in one run; :meth:`open` makes one.

    Without privacy it answers what it is given and keeps nothing.

    Attributes:
        event: what was reserved, None without privacy.
    """

    def __init__(
        self,
        store: SiteStore,
        hospital: str,
        run: str,
        rounds: int,
        event: MechanismEvent | None,
        ledger: Ledger,
    ) -> None:
        self.event = event
        self._hospital = hospital
        self._run = run
        self._rounds = rounds
        self._ledger = ledger
        self._answers = _Answers(store, run)

    @classmethod
    def open(
        cls,
        store: SiteStore,
        hospital: str,
        *,
        run: str,
        privacy: PrivacyConfig | None,
        rounds: int,
        budget: PrivacyBudget,
        witnesses: Iterable[LedgerHead] = (),
    ) -> RunSpending:
        """Reserve all steps of a run; call it before any row is read.

        A run that goes on after a crash finds its reservation. One that is settled can be opened,
        for its last answers to be evaluated again, and gives none.

        Args:
            store: the hospital's own.
            hospital: name.
            run: name of the run.
            privacy: that the recipe asks for.
            rounds: of the whole run.
            budget: of the hospital, read at the hospital.
            witnesses: heads of the ledger that the coordinator saw.

        Raises:
            BudgetExceededError: the run does not fit into what is left.
            UnprotectedRunError: it asks for no privacy, and the budget allows no such run.
            OtherEventsError: a run of that name reserved something else.
            LedgerDamagedError: the ledger is not whole.
        """
        ledger = Ledger(store, hospital, witnesses)
        if privacy is None:
            ledger.unprotected(run, budget)
            return cls(store, hospital, run, rounds, None, ledger)
        steps = rounds * privacy.steps
        event = MechanismEvent(
            noise_multiplier=accounting.noise_multiplier(
                privacy.epsilon, privacy.delta, privacy.sampling_rate, steps
            ),
            sampling_rate=privacy.sampling_rate,
            steps=steps,
        )
        known = ledger.account(run)
        if known is None or not known.closed:
            what = f"training, {rounds} rounds" + (
                f" of {privacy.steps} steps each" if privacy.steps > 1 else ""
            )
            ledger.reserve(run, [event], budget, privacy.epsilon, what)
        elif known.reserved != (event,):
            raise OtherEventsError(run, known.reserved)
        return cls(store, hospital, run, rounds, event, ledger)

    def standing(self) -> tuple[Balance, LedgerHead | None]:
        """Return what the hospital's ledger adds up to, and its newest entry."""
        return self._ledger.balance(), self._ledger.head()

    def answer(self, round_: int, asked: bytes, make: Callable[[], Answer]) -> Answer:
        """Return the answer to a round; it may leave the hospital.

        Args:
            round_: from 1.
            asked: digest of the weights that came in.
            make: trains and adds the noise. It is not called where the round was answered before.

        Raises:
            RoundNotReservedError: there is no such round.
            OtherWeightsError: the round was answered from other weights.
            RunClosedError: the run was settled.
        """
        if self.event is None:
            return make()
        if not 1 <= round_ <= self._rounds:
            raise RoundNotReservedError(self._hospital, self._run, round_, self._rounds)
        self._answers.check_open()
        stored = self._answers.load(round_)
        if stored is None:
            new = _Stored(make(), asked, self.event.steps // self._rounds)
            stored = self._answers.keep(round_, new)
            self._answers.check_open()
        if stored.asked != asked:
            raise OtherWeightsError(self._hospital, self._run, round_)
        return stored.answer

    def close(self) -> None:
        """Settle by the rounds that were answered; does nothing the second time."""
        if self.event is None:
            return
        account = self._ledger.account(self._run)
        if account is None or not account.closed:
            _, steps = self._answers.close()
            self._ledger.settle(self._run, [self.event.model_copy(update={"steps": steps})])
        self._answers.delete()


def settle_interrupted(store: SiteStore, hospital: str, run: str) -> str:
    """Close a run that will never be resumed, by the answers that are stored.

    Where the egress log shows more answers than are stored, nobody can say how much left, and the
    whole reservation is forfeited.

    Args:
        store: the hospital's own.
        hospital: name.
        run: name of the run; it may still be running, and then answers no more.

    Returns:
        What was done, for people.

    Raises:
        NoReservationError: the run never reserved.
        RunClosedError: it is closed already.
    """
    ledger = Ledger(store, hospital)
    account = ledger.account(run)
    if account is None:
        raise NoReservationError(run, ledger.balance().open_runs)
    if account.closed:
        raise RunClosedError(run)
    answers = _Answers(store, run)
    stored, steps = answers.close()
    entries = EgressLog(store).entries()
    # A round that was sent twice is in the log twice.
    left = len({e.detail for e in entries if e.kind == "update" and e.run == run})
    (event,) = account.reserved
    if left > stored:
        reason = f"{left} updates left by the egress log, and {stored} answers are stored"
        ledger.forfeit(run, reason)
        done = f"forfeited all {event.steps} steps: {reason}"
    else:
        ledger.settle(run, [event.model_copy(update={"steps": steps})])
        done = f"settled {steps} of {event.steps} reserved steps"
    answers.delete()
    return done

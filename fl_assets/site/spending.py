"""What a hospital does about its privacy budget in one run.

All steps of all rounds are reserved before a row is read. An answer is stored before it leaves, so
a round that is asked again, as after a crash of either side, gets the stored one: no new noise is
drawn, nothing new is released and nothing is charged twice. What is stored is at least what left,
and the run is settled by it. Where something that left is stored no more nobody can say what the
run has cost: it is forfeited, and answers nothing any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from fl_assets.consortium import PrivacyBudget
from fl_assets.errors import BadDataError
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
from fl_assets.site.answers import Answer, Answers, Stored
from fl_assets.storage import SiteStore


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


class AnswersLostError(BadDataError):
    """A round was asked again whose answer left, and is stored no more."""

    def __init__(self, hospital: str, run: str, round_: int) -> None:
        super().__init__(
            f"{hospital} answered round {round_} of run {run}, and the answer is gone from its "
            "store; a second one would have other noise, which was not reserved. All that the run "
            "reserved is spent: give the training a new run name"
        )


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
        self._answers = Answers(store, run)
        self._left: set[int] = set()

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
        spending = cls(store, hospital, run, rounds, event, ledger)
        if known is not None and not known.closed:
            # A process before this one may have answered.
            spending._left = spending._answers.left()
        return spending

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
            AnswersLostError: its answer has left and is stored no more.
            RunClosedError: the run was settled.
        """
        if self.event is None:
            return make()
        if not 1 <= round_ <= self._rounds:
            raise RoundNotReservedError(self._hospital, self._run, round_, self._rounds)
        self._answers.check_open()
        stored = self._answers.load(round_)
        if stored is None:
            if round_ in self._left:
                self.close()
                raise AnswersLostError(self._hospital, self._run, round_)
            new = Stored(make(), asked, self.event.steps // self._rounds)
            stored = self._answers.keep(round_, new)
            self._answers.check_open()
        if stored.asked != asked:
            raise OtherWeightsError(self._hospital, self._run, round_)
        self._left.add(round_)
        return stored.answer

    def close(self) -> None:
        """Settle by the rounds that were answered; does nothing the second time."""
        if self.event is None:
            return
        account = self._ledger.account(self._run)
        if account is None or not account.closed:
            self._answers.close(self._ledger, self.event, self._left)
        else:
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
    answers = Answers(store, run)
    (event,) = account.reserved
    return answers.close(ledger, event, answers.left())


def settle_all_interrupted(store: SiteStore, hospital: str) -> None:
    """Close every open run, as :func:`settle_interrupted` does, before its answers are deleted.

    Raises:
        LedgerDamagedError: the ledger is not whole.
    """
    for run in Ledger(store, hospital).balance().open_runs:
        settle_interrupted(store, hospital, run)

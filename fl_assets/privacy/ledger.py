"""The privacy ledger of a hospital: what was ever learnt of its patients, and what still may be.

The budget holds for the whole life of the data. A run reserves all of its steps before the first
one, and settles by those that it really released. What it reserved counts as spent until then, so
a crash can only overstate what was spent.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import count

from fl_assets.consortium import PrivacyBudget
from fl_assets.errors import BadDataError
from fl_assets.privacy import accounting
from fl_assets.privacy.events import MechanismEvent
from fl_assets.privacy.ledger_balance import (
    Account,
    Balance,
    Events,
    OtherEventsError,
    RunClosedError,
)
from fl_assets.privacy.ledger_chain import LedgerChain
from fl_assets.privacy.ledger_entries import (
    Act,
    Arithmetic,
    Charge,
    Forfeit,
    LedgerEntry,
    LedgerHead,
    Refusal,
    Reservation,
    Settlement,
    UnprotectedRun,
)
from fl_assets.storage import SiteStore

# Of epsilon, for a run that asks for exactly what is left.
ROUNDING = 1e-9
_RANDOM = random.SystemRandom()


class BudgetExceededError(BadDataError):
    """A request does not fit into what is left of the hospital's budget."""

    def __init__(self, hospital: str, run: str, arithmetic: Arithmetic) -> None:
        super().__init__(
            f"{hospital}: run {run} {arithmetic}; ask for a smaller epsilon, or have the "
            "hospital's data-protection officer raise privacy_budget in consortium.yaml"
        )
        self.arithmetic = arithmetic


class UnprotectedRunError(BadDataError):
    """A run without privacy at a hospital that lets none through."""

    def __init__(self, hospital: str, run: str) -> None:
        super().__init__(
            f"{hospital}: run {run} asks for no privacy, and this hospital allows no run without: "
            "give the recipe a `privacy`, or ask the hospital's data-protection officer to set "
            "privacy_budget.unprotected_runs in consortium.yaml"
        )


class Ledger:
    """An append-only, hash-chained ledger in the hospital's own store.

    Every call reads what was appended since the last one and verifies the chain. An append takes
    the next number by a conditional put; of processes that race one gets it, and the others decide
    anew on what they find then. One object is for one thread.

    Args:
        store: the hospital's own.
        hospital: for messages.
        witnesses: heads of this ledger that others saw earlier; each must be in it.

    Raises:
        LedgerDamagedError: every method does, where the chain is not whole or a head that was seen
            earlier is not in it.
    """

    def __init__(
        self, store: SiteStore, hospital: str, witnesses: Iterable[LedgerHead] = ()
    ) -> None:
        self._hospital = hospital
        self._chain = LedgerChain(store, hospital, witnesses)
        self._balance = Balance()
        self._applied = 0

    def entries(self) -> Sequence[LedgerEntry]:
        """Return every entry, oldest first."""
        self.balance()
        return tuple(self._chain.entries)

    def head(self) -> LedgerHead | None:
        """Return the newest entry's number and hash, None where there is none."""
        self.balance()
        return self._chain.head

    def spent_events(self) -> Events:
        """Return what counts against the budget: open reservations in full, settled ones not."""
        return self.balance().spent

    def account(self, run: str) -> Account | None:
        """Return what a run reserved and spent, None if it never reserved."""
        return self.balance().accounts.get(run)

    def balance(self) -> Balance:
        """Read and verify the ledger, and return what it adds up to."""
        self._chain.read()
        for entry in self._chain.entries[self._applied :]:
            try:
                self._balance.apply(entry.act)
            except BadDataError as error:
                raise self._chain.damage(f"entry {entry.sequence} is unlawful: {error}") from error
            self._applied += 1
        return self._balance

    def reserve(
        self,
        run: str,
        events: Sequence[MechanismEvent],
        budget: PrivacyBudget,
        asked: float,
        what: str,
    ) -> None:
        """Set privacy aside for a run.

        A reservation of the same events that is still open is taken up again without a new charge:
        the run goes on after a crash.

        Args:
            run: its name.
            events: the most that it will release.
            budget: of the hospital.
            asked: total epsilon of the run, for people.
            what: for people.

        Raises:
            BudgetExceededError: with everything ever charged it composes to more than the budget.
            OtherEventsError: the run reserved other events before.
            RunClosedError: the run was settled or forfeited.
        """
        wanted = tuple(events)

        def decide(balance: Balance) -> Act | None:
            known = balance.accounts.get(run)
            if known is None:
                return self._refusal(balance, run, wanted, budget, asked) or Reservation(
                    run=run, events=wanted, epsilon=asked, delta=budget.delta, what=what
                )
            if known.reserved != wanted:
                raise OtherEventsError(run, known.reserved)
            if known.closed:
                raise RunClosedError(run)
            return None

        self._record(decide)

    def charge(
        self,
        run: str,
        events: Sequence[MechanismEvent],
        budget: PrivacyBudget,
        asked: float,
        what: str,
    ) -> None:
        """Charge one release, such as a noised profile; every call is a charge of its own.

        Arguments as for :meth:`reserve`.

        Raises:
            BudgetExceededError: with everything ever charged it composes to more than the budget.
        """
        wanted = tuple(events)

        def decide(balance: Balance) -> Act:
            return self._refusal(balance, run, wanted, budget, asked) or Charge(
                run=run, events=wanted, epsilon=asked, delta=budget.delta, what=what
            )

        self._record(decide)

    def settle(self, run: str, events: Sequence[MechanismEvent]) -> None:
        """Close a reservation by what was really released; nothing if it was closed so before.

        Raises:
            NoReservationError: the run never reserved.
            RunClosedError: it was closed with other events.
            OtherEventsError: this is more, or something else, than it reserved.
        """
        released = tuple(events)
        self._close(run, released, Settlement(run=run, events=released))

    def forfeit(self, run: str, reason: str) -> None:
        """Close a reservation with everything spent; nothing if it is spent and closed already.

        Raises:
            NoReservationError: the run never reserved.
            RunClosedError: it was settled with less.
        """
        self._close(run, None, Forfeit(run=run, reason=reason))

    def unprotected(self, run: str, budget: PrivacyBudget) -> None:
        """Note a run without privacy, once.

        Raises:
            UnprotectedRunError: the budget allows none; the refusal is noted.
        """

        def decide(balance: Balance) -> Act | None:
            if not budget.unprotected_runs:
                return Refusal(run=run, reason="asks for no privacy, which is not allowed")
            return None if run in balance.unprotected else UnprotectedRun(run=run)

        self._record(decide)

    def _close(self, run: str, released: Events | None, act: Act) -> None:
        def decide(balance: Balance) -> Act | None:
            account = balance.account(run)
            account.closed_with(run, account.reserved if released is None else released)
            return None if account.closed else act

        self._record(decide)

    def _record(self, decide: Callable[[Balance], Act | None]) -> None:
        """Append what is decided on the newest state; None is nothing to append.

        Raises:
            BudgetExceededError, UnprotectedRunError: it was a refusal, which is noted before.
        """
        for attempt in count():
            balance = self.balance()
            act = decide(balance)
            # A run that asks the same again, as every retry does, does not fill the ledger.
            noted = isinstance(act, Refusal) and balance.refusals.get(act.run) == act
            if act is None or noted or self._chain.append(act):
                break
            # Of n that race all the time, n - 1 lose each time; this spreads them out.
            time.sleep(_RANDOM.uniform(0, min(0.02 * 2**attempt, 0.5)))
        if isinstance(act, Refusal):
            if act.arithmetic is None:
                raise UnprotectedRunError(self._hospital, act.run)
            raise BudgetExceededError(self._hospital, act.run, act.arithmetic)

    def _refusal(
        self, balance: Balance, run: str, events: Events, budget: PrivacyBudget, asked: float
    ) -> Refusal | None:
        spent = balance.spent
        lifetime = epsilon_of((*spent, *events), budget.delta)
        if lifetime <= budget.epsilon + ROUNDING:
            return None
        arithmetic = Arithmetic(
            asked=asked,
            lifetime=lifetime,
            cap=budget.epsilon,
            left=epsilon_left(spent, budget),
            delta=budget.delta,
        )
        return Refusal(run=run, reason=str(arithmetic), arithmetic=arithmetic)


# Composing takes milliseconds and more, and of many requests that race for the last epsilon all
# but one ask the same again: refusals change nothing that is composed.
@lru_cache(maxsize=256)
def epsilon_of(events: Events, delta: float) -> float:
    """Return the epsilon that events compose to."""
    return accounting.epsilon(events, delta)


@lru_cache(maxsize=256)
def _remaining(events: Events, epsilon: float, delta: float) -> float:
    return accounting.remaining(events, epsilon, delta)


def epsilon_left(spent: Events, budget: PrivacyBudget) -> float:
    """Return the most that one more request may ask for."""
    return _remaining(spent, budget.epsilon, budget.delta)

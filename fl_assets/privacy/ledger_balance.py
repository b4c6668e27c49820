"""What the entries of a ledger add up to: which runs are open, and what has been spent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fl_assets.errors import BadDataError
from fl_assets.privacy.events import MechanismEvent
from fl_assets.privacy.ledger_entries import (
    Act,
    Charge,
    Forfeit,
    Refusal,
    Reservation,
    Settlement,
    UnprotectedRun,
)

Events = tuple[MechanismEvent, ...]


class NoReservationError(BadDataError):
    """A run was to be closed that reserved nothing."""

    def __init__(self, run: str, open_runs: Sequence[str] = ()) -> None:
        known = f"open are {', '.join(open_runs)}" if open_runs else "no run is open"
        super().__init__(f"run {run} has no reservation in the ledger: correct its name, {known}")


class RunClosedError(BadDataError):
    """A run was to go on whose reservation is settled or forfeited."""

    def __init__(self, run: str) -> None:
        super().__init__(
            f"run {run} is closed in the ledger and can release nothing more: give a new training "
            "a name of its own, which is charged anew"
        )


class OtherEventsError(BadDataError):
    """A run asks for something else than what it reserved, or than it may settle."""

    def __init__(self, run: str, reserved: Sequence[MechanismEvent]) -> None:
        held = ", ".join(
            f"{e.steps} steps with noise multiplier {e.noise_multiplier:.4g} and sampling rate "
            f"{e.sampling_rate:.4g}"
            for e in reserved
        )
        super().__init__(
            f"run {run} reserved {held}, and this is not within it: give a run of another recipe a "
            "name of its own"
        )


@dataclass(frozen=True)
class Account:
    """A run in the ledger.

    Attributes:
        reserved: the most that it may release.
        spent: what counts: all of it, or what was released where it was settled.
        closed: whether it was settled or forfeited.
    """

    reserved: Events
    spent: Events
    closed: bool = False

    def closed_with(self, run: str, released: Events) -> Account:
        """Return the account after its settlement.

        Raises:
            RunClosedError: it is closed, and not with the same.
            OtherEventsError: more, or something else, was released than was reserved.
        """
        if self.closed and released != self.spent:
            raise RunClosedError(run)
        within = len(released) == len(self.reserved) and all(
            e.steps <= most.steps and e == most.model_copy(update={"steps": e.steps})
            for e, most in zip(released, self.reserved, strict=True)
        )
        if not within:
            raise OtherEventsError(run, self.reserved)
        return Account(self.reserved, released, closed=True)


class Balance:
    """The state of a ledger after its entries.

    Attributes:
        accounts: by run, those that ever reserved.
        charges: events of the one-shot releases, by the run that asked for them.
        refusals: the last one of each run.
        unprotected: runs without privacy.
    """

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.charges: dict[str, Events] = {}
        self.refusals: dict[str, Refusal] = {}
        self.unprotected: set[str] = set()

    @property
    def spent(self) -> Events:
        """Everything that counts against the budget, open reservations in full."""
        spent = (*(account.spent for account in self.accounts.values()), *self.charges.values())
        return tuple(event for events in spent for event in events if event.steps)

    def spent_by(self, run: str) -> Events:
        """Return what counts of one run: its reservation, and what it was charged for beside it.

        Raises:
            NoReservationError: it never reserved.
        """
        return (*self.account(run).spent, *self.charges.get(run, ()))

    @property
    def open_runs(self) -> list[str]:
        """Runs whose reservation is neither settled nor forfeited."""
        return [run for run, account in self.accounts.items() if not account.closed]

    def account(self, run: str) -> Account:
        """Return the account of a run.

        Raises:
            NoReservationError: it never reserved.
        """
        if run not in self.accounts:
            raise NoReservationError(run)
        return self.accounts[run]

    def apply(self, act: Act) -> None:
        """Add an entry.

        Raises:
            NoReservationError, RunClosedError, OtherEventsError: it cannot follow the others.
        """
        match act:
            case Reservation(run=run, events=events):
                if run in self.accounts:
                    raise RunClosedError(run)
                self.accounts[run] = Account(events, events)
            case Settlement(run=run, events=events):
                self.accounts[run] = self.account(run).closed_with(run, events)
            case Forfeit(run=run):
                reserved = self.account(run).reserved
                self.accounts[run] = self.account(run).closed_with(run, reserved)
            case Charge(run=run, events=events):
                self.charges[run] = (*self.charges.get(run, ()), *events)
            case Refusal(run=run):
                self.refusals[run] = act
            case UnprotectedRun(run=run):
                self.unprotected.add(run)

"""What is written into a privacy ledger: one entry per decision, each with the hash of the last."""

from __future__ import annotations

import hashlib
import math
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from fl_assets.config import StrictModel
from fl_assets.privacy.events import MechanismEvent

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Number = Annotated[int, Field(ge=1)]
NOTHING_BEFORE = "0" * 64


class LedgerHead(StrictModel):
    """The newest entry of a ledger as somebody saw it.

    Attributes:
        sequence: its number, which is how many entries there were.
        digest: SHA-256 of its bytes. Every entry holds the digest of the one before it, so this
            one stands for all of them.
    """

    sequence: Number
    digest: Digest


class Reservation(StrictModel):
    """Privacy set aside for a run before its first step.

    Attributes:
        run: its name.
        events: the most that it may release.
        epsilon, delta: that it asked for, at the delta of the hospital's budget.
        what: for people.
    """

    kind: Literal["reserve"] = "reserve"
    run: str
    events: tuple[MechanismEvent, ...]
    epsilon: float
    delta: float
    what: str


class Settlement(StrictModel):
    """The end of a reservation: what was not released is given back.

    Attributes:
        run: whose.
        events: those of the reservation, with the steps that were really released.
    """

    kind: Literal["settle"] = "settle"
    run: str
    events: tuple[MechanismEvent, ...]


class Forfeit(StrictModel):
    """The end of a reservation of which nobody knows how much was released: it is all spent."""

    kind: Literal["forfeit"] = "forfeit"
    run: str
    reason: str


class Charge(StrictModel):
    """One release, reserved and spent at once; fields as those of :class:`Reservation`."""

    kind: Literal["charge"] = "charge"
    run: str
    events: tuple[MechanismEvent, ...]
    epsilon: float
    delta: float
    what: str


class Arithmetic(StrictModel):
    """Why a request does not fit into a budget; all epsilons are at ``delta``.

    Attributes:
        asked: by the request.
        lifetime: what everything ever charged and the request would compose to.
        cap: of the budget.
        left: the most that one more request could ask for.
        delta: of the budget.
    """

    asked: float
    lifetime: float
    cap: float
    left: float
    delta: float

    def __str__(self) -> str:
        return (
            f"asks {self.asked:.2f}, lifetime would be {rounded_up(self.lifetime)} of "
            f"{self.cap:.2f}, {rounded_down(self.left)} left at delta {self.delta:g}"
        )


def rounded_up(epsilon: float) -> str:
    """Return what is spent, to two places: what is too much must not look as if it fitted."""
    return f"{math.ceil(epsilon * 100 - 1e-6) / 100:.2f}"


def rounded_down(epsilon: float) -> str:
    """Return what is left, to two places."""
    return f"{math.floor(epsilon * 100 + 1e-6) / 100:.2f}"


class Refusal(StrictModel):
    """Something that was asked for and not done.

    Attributes:
        run: that asked.
        reason: for people.
        arithmetic: where the budget was too small; None if the run asked for no privacy at all.
    """

    kind: Literal["refuse"] = "refuse"
    run: str
    reason: str
    arithmetic: Arithmetic | None = None


class UnprotectedRun(StrictModel):
    """A run without privacy, which the hospital's budget allows; noted once per run."""

    kind: Literal["unprotected"] = "unprotected"
    run: str


Act = Reservation | Settlement | Forfeit | Charge | Refusal | UnprotectedRun


class LedgerEntry(StrictModel):
    """One object of the ledger.

    Attributes:
        sequence: from 1.
        time: UTC.
        previous: SHA-256 of the bytes of the entry before it; zeros in the first.
        act: what was decided.
    """

    sequence: Number
    time: datetime
    previous: Digest
    act: Annotated[Act, Field(discriminator="kind")]


def digest_of(data: bytes) -> str:
    """Return the SHA-256 of an entry's bytes in hex."""
    return hashlib.sha256(data).hexdigest()

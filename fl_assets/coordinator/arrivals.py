"""What is new in the hospitals' ``incoming/``, and what is to be done about it.

Whether something is new is a matter of two states, not of events: what a hospital's ``incoming/``
holds, and what its intake says it has read. Where they differ one run is asked for, whatever led
there: a new file, a rewritten one, an old one put back, one that arrived late. The run is named by
both states, and every intake leaves a state that there was never before, so that the same event
told ten times, a lost cursor or a restart lead to no second run, and a return to an old state is
no repetition.

What a hospital made without Dagster is asked for in the same way: there the two states are the
version that the hospital has and Dagster's own record of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from datetime import datetime, timedelta

from pydantic import Field

from fl_assets.config import StrictModel
from fl_assets.coordinator.chain import RECORDS, Behind, Seen, first_behind
from fl_assets.coordinator.polling import Polled
from fl_assets.site.intake import INTAKE, current_version, load_intake
from fl_assets.site.uploads import list_uploads
from fl_assets.storage import ObjectInfo, SiteStore

# A file younger than this may still be growing.
SETTLING = timedelta(seconds=2)
# After a run that failed without a word of the intake: its machine died, the store was away.
RETRY_AFTER = (timedelta(minutes=1), timedelta(minutes=10))


@dataclass(frozen=True)
class Look:
    """A hospital's uploads, and what its intake knows of them.

    Attributes:
        uploads: current objects in ``incoming/``.
        read: key and version of those that the intake read last.
        report: version of the intake's report, empty if there is none yet.
        torn: whether the current records are others than the report says, as after an intake that
            died between the two writes.
        behind: what the hospital made without Dagster.
    """

    uploads: tuple[ObjectInfo, ...]
    read: frozenset[tuple[str, str]]
    report: str
    torn: bool = False
    behind: Behind | None = None

    @property
    def changed(self) -> list[str]:
        """Keys of uploads that are new, other or gone since the intake, or of a torn report."""
        return sorted({key for key, _ in self._present ^ self.read}) or [INTAKE] * self.torn

    @property
    def state(self) -> str:
        """What names a run about it: 16 hex digits."""
        if self.changed or self.behind is None:
            text = json.dumps([sorted(self._present), self.report])
        else:
            text = json.dumps(astuple(self.behind))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def _present(self) -> frozenset[tuple[str, str]]:
        return frozenset((info.key, info.version) for info in self.uploads)


def look(store: SiteStore, seen: Callable[[str], Seen], now: datetime) -> Look:
    """Look into a hospital's ``incoming/``, and whether Dagster knows what it has made.

    Needs the right to list it and to read manifests and the intake's report, and no row.

    Args:
        store: the hospital's.
        seen: what Dagster knows of an asset of this hospital.
        now: the time.
    """
    # In this order: a report that is newer than its version only makes the run's name an old one,
    # and the next look finds the right one.
    report = next((info.version for info in store.list(INTAKE) if info.key == INTAKE), "")
    intake = load_intake(store)
    read = frozenset((upload.key, upload.version) for upload in intake.uploads)
    uploads = list_uploads(store, {key for key, _ in read})
    torn = intake.records != current_version(store)
    behind = first_behind(store, seen, bool(intake.blocked), now)
    return Look(tuple(uploads), read, report, torn, behind)


@dataclass(frozen=True)
class Past:
    """Runs that there were of a hospital's data.

    Attributes:
        under_way: whether one was queued or running when the hospital was looked at, or is now.
        failed: when those ended that were asked for in the very state of now.
    """

    under_way: bool = False
    failed: tuple[datetime, ...] = ()


@dataclass(frozen=True)
class Request:
    """A run to ask for.

    Attributes:
        hospital: whose data to make.
        asset: to make; what follows from it follows by itself.
        state: of :class:`Look`.
        key: of the run; asking again with the same one is no second run.
        about: the uploads that changed, or what the hospital made itself.
    """

    hospital: str
    asset: str
    state: str
    key: str
    about: tuple[str, ...]


class Cursor(StrictModel):
    """What one look leaves for the next; losing it costs a turn, and no upload.

    Attributes:
        due: hospitals to look at, in order.
        failing: those that could not be looked at; they come last, so that they take no one's turn.
        listed: when all of them were last made due, in seconds since 1970.
        young: uploads that may still be growing, with their version, by hospital.
    """

    due: tuple[str, ...] = ()
    failing: tuple[str, ...] = ()
    listed: float = 0.0
    young: dict[str, dict[str, str]] = Field(default_factory=dict)

    @classmethod
    def parse(cls, text: str | None) -> Cursor:
        """Read a stored cursor; one that is missing or from another release begins anew."""
        try:
            return cls.model_validate_json(text or "{}")
        except ValueError:
            return cls()

    def turn(
        self, names: Sequence[str], told: Iterable[str], now: datetime, every: float
    ) -> Cursor:
        """Return the cursor with the hospitals that are due now.

        Args:
            names: of all hospitals.
            told: hospitals that somebody says have new uploads; they come first.
            now: the time.
            every: seconds after which all are looked at, told or not.
        """
        full = now.timestamp() - self.listed >= every
        wanted = dict.fromkeys([*told, *self.due, *(names if full else ())])
        order = [name for name in wanted if name not in self.failing] + list(self.failing)
        return self.model_copy(
            update={
                "due": tuple(name for name in order if name in names),
                "listed": now.timestamp() if full else self.listed,
            }
        )


@dataclass(frozen=True)
class Arrivals:
    """What is to be done after a look at the hospitals.

    Attributes:
        requests: runs to ask for.
        notes: by hospital, why it waits, in words for people.
        cursor: for the next look.
    """

    requests: tuple[Request, ...]
    notes: dict[str, str]
    cursor: Cursor


def judge(
    cursor: Cursor, polled: Polled[Look], past: Callable[[str, str], Past], now: datetime
) -> Arrivals:
    """Decide what follows from a look at the hospitals that were due.

    Args:
        cursor: that said who was due.
        polled: what was found.
        past: of a hospital and the state of a look, the runs that there were.
        now: the time.
    """
    notes: dict[str, str] = {}
    requests = []
    young = {name: seen for name, seen in cursor.young.items() if name not in polled.answers}
    for name, found in polled.answers.items():
        growing = _young(found, now)
        if growing:
            young[name] = growing
        outcome = _judge(name, found, growing, cursor.young.get(name, {}), past, now)
        if isinstance(outcome, Request):
            requests.append(outcome)
        elif outcome is not None:
            notes[name] = outcome
    # Whoever waits or was asked for is looked at again, after those that had no turn.
    again = (*polled.not_asked, *notes, *(request.hospital for request in requests))
    left = {"due": again, "failing": tuple(polled.failures), "young": young}
    failures = {name: f"cannot be looked at: {why}" for name, why in polled.failures.items()}
    return Arrivals(tuple(requests), notes | failures, cursor.model_copy(update=left))


def _judge(
    name: str,
    found: Look,
    growing: Mapping[str, str],
    before: Mapping[str, str],
    past: Callable[[str, str], Past],
    now: datetime,
) -> Request | str | None:
    """Return the run to ask for, why to wait, or None where nothing is new."""
    asset, about = RECORDS, tuple(found.changed)
    if not about:
        if found.behind is None:
            return None
        asset = found.behind.asset
        about = (f"{asset}, made without Dagster",)
    if any(before.get(key) != version for key, version in growing.items()):
        return "waits: an upload may still be growing"
    runs = past(name, found.state)
    if runs.under_way:
        return "waits: a run of its data is under way"
    attempt, told = len(runs.failed), ", ".join(about)
    if attempt > len(RETRY_AFTER):
        return (
            f"{attempt} runs about {told} failed without an outcome: see the last one, then "
            f"materialise {asset} by hand"
        )
    if attempt and now < max(runs.failed) + RETRY_AFTER[attempt - 1]:
        return f"waits: run {attempt} about {told} failed, the next one follows soon"
    return Request(name, asset, found.state, f"{name}:{found.state}:{attempt}", about)


def _young(found: Look, now: datetime) -> dict[str, str]:
    new = (i for i in found.uploads if (i.key, i.version) not in found.read)
    return {i.key: i.version for i in new if now - i.modified < SETTLING}

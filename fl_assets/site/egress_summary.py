"""The egress log summed up for people: what left by day, kind and run."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date

from fl_assets.config import StrictModel
from fl_assets.site.egress import EgressEntry


class EgressGroup(StrictModel):
    """The messages of one day, kind and run.

    Attributes:
        day: ``2026-01-31``, UTC.
        kind, run: of the messages.
        messages, bytes: how many, and how large together.
        first, last: time of the first and the last one, UTC.
    """

    day: str
    kind: str
    run: str
    messages: int
    bytes: int
    first: str
    last: str


class EgressSummary(StrictModel):
    """What left a hospital.

    Attributes:
        messages, bytes: in all.
        by_day_kind_and_run: the same, apart.
    """

    messages: int
    bytes: int
    by_day_kind_and_run: tuple[EgressGroup, ...]


def select(
    entries: Sequence[EgressEntry],
    since: date | None = None,
    kinds: Collection[str] = (),
    run: str | None = None,
) -> list[EgressEntry]:
    """Return the entries from a day (UTC) on, of some kinds, and that one run asked for."""
    return [
        entry
        for entry in entries
        if (since is None or entry.time.date() >= since)
        and (not kinds or entry.kind in kinds)
        and run in (None, entry.run)
    ]


def summarise(entries: Sequence[EgressEntry]) -> EgressSummary:
    """Sum entries up by day, kind and run."""
    groups: dict[tuple[str, str, str], list[EgressEntry]] = {}
    for entry in entries:
        groups.setdefault((f"{entry.time:%Y-%m-%d}", entry.kind, entry.run), []).append(entry)
    return EgressSummary(
        messages=len(entries),
        bytes=sum(entry.size for entry in entries),
        by_day_kind_and_run=tuple(
            EgressGroup(
                day=day,
                kind=kind,
                run=run,
                messages=len(found),
                bytes=sum(entry.size for entry in found),
                first=found[0].time.isoformat(timespec="seconds"),
                last=found[-1].time.isoformat(timespec="seconds"),
            )
            for (day, kind, run), found in groups.items()
        ),
    )

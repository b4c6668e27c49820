"""Named locks of a store: who holds one, what can go wrong, and taking one again inside itself."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import Field

from fl_assets.config import StrictModel
from fl_assets.storage.base import StorageError

WAIT = 600.0
"""Seconds to wait for a lock; an intake of millions of rows takes minutes."""

TICK = 0.1  # seconds between two tries


def _this_process() -> str:
    return f"process {os.getpid()} on {os.uname().nodename}"


class Holder(StrictModel):
    """Who holds a lock, for people.

    Attributes:
        who: process and machine, or pod.
        since: UTC.
    """

    who: str = Field(default_factory=_this_process)
    since: datetime = Field(default_factory=lambda: datetime.now(UTC))


class LockHeldError(StorageError):
    """A lock did not become free in time."""

    def __init__(self, uri: str, name: str, holder: Holder | None, wait: float) -> None:
        who = "another process"
        if holder is not None:
            who = f"{holder.who} since {holder.since.isoformat(timespec='seconds')}"
        super().__init__(
            f"{uri}: lock {name!r} is held by {who} and did not become free within {wait:g} s: "
            "wait until that process is done, or stop it, then try again; of a process that died "
            "a folder's lock is free at once and a bucket's after a minute"
        )


class LockLostError(StorageError):
    """A lock was taken over, because its holder seemed dead."""

    def __init__(self, uri: str, name: str) -> None:
        super().__init__(
            f"{uri}: lock {name!r} was not renewed in time and may be another process's by now, "
            "so nothing more was published: check that the machine does not stall and reaches the "
            "store, then run it again"
        )


@dataclass(frozen=True)
class Held:
    """A lock while it is held.

    Attributes:
        check: raises :class:`LockLostError` if it is held no longer; to be called right before
            what others rely on is published.
    """

    check: Callable[[], None]


class _Mine(threading.local):
    """The locks of a thread, by store and name."""

    def __init__(self) -> None:
        self.held: dict[tuple[str, str], Held] = {}


_MINE = _Mine()


@contextmanager
def unless_held(
    uri: str, name: str, take: Callable[[], AbstractContextManager[Held]]
) -> Iterator[Held]:
    """Take a lock, unless this thread holds it already: then the outer block goes on holding it."""
    mine = (uri, name)
    if mine in _MINE.held:
        yield _MINE.held[mine]
        return
    with take() as held:
        _MINE.held[mine] = held
        try:
            yield held
        finally:
            del _MINE.held[mine]

"""A lock on a store that has no locks of its own: a lease made of numbered objects.

``locks/<name>/<number>.json`` is a claim. The claim of the highest number holds the lock, until it
says that it is free or was not renewed for :data:`LEASE` seconds. Whoever wants it then creates
the next number by a conditional put, which one of all racers does. Time is measured by each
process' own clock alone: a waiting one watches the claim's version, which every renewal changes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread

from pydantic import ValidationError

from fl_assets.storage.base import (
    ObjectExistsError,
    ObjectInfo,
    ObjectNotFoundError,
    SiteStore,
    StorageError,
)
from fl_assets.storage.locks import TICK, Held, Holder, LockHeldError, LockLostError

LOCKS = "locks/"
LEASE = 60.0
"""Seconds after which a claim that was not renewed holds the lock no longer."""


class Claim(Holder):
    """What a claim says.

    Attributes:
        free: whether its holder gave the lock back.
    """

    free: bool = False


@contextmanager
def leased(store: SiteStore, name: str, wait: float) -> Iterator[Held]:
    """Hold a lock and renew it from a thread.

    Raises:
        LockHeldError: it did not become free in time.
    """
    lease = _Lease(store, name)
    lease.take(wait)
    done = Event()
    renewing = Thread(target=lease.renew_until, args=(done,), daemon=True)
    renewing.start()
    try:
        yield Held(lease.check)
    finally:
        done.set()
        renewing.join()
        # A claim that cannot be given back now is free after its time.
        with suppress(StorageError):
            lease.release()


class _Lease:
    def __init__(self, store: SiteStore, name: str) -> None:
        self._store, self._name = store, name
        self._claim = Claim()
        self._number = -1
        self._renewed = 0.0

    def take(self, wait: float) -> None:
        end = time.monotonic() + wait
        seen, seen_at = "", 0.0
        while True:
            newest, now = self._newest(), time.monotonic()
            if newest is None:
                free, number, holder = True, -1, None
            else:
                if newest.version != seen:
                    seen, seen_at = newest.version, now
                holder = self._read(newest)
                number = _number(newest)
                free = now - seen_at >= LEASE or (holder is not None and holder.free)
            if free and self._create(number + 1):
                return
            if time.monotonic() >= end:
                raise LockHeldError(self._store.uri, self._name, holder, wait)
            time.sleep(TICK)

    def _create(self, number: int) -> bool:
        self._claim, begun = Claim(), time.monotonic()
        try:
            self._store.put_if_absent(self._key(number), _text(self._claim))
        except ObjectExistsError:
            return False
        claims = self._store.list(self._prefix)
        if max(map(_number, claims)) != number:
            # While we were looking the number was taken, given back and purged.
            self._store.purge(self._key(number))
            return False
        self._number, self._renewed = number, begun
        for info in claims:
            if _number(info) < number:
                self._store.purge(info.key)
        return True

    def renew_until(self, done: Event) -> None:
        while not done.wait(LEASE / 4):
            # A store that is away for a moment may be there again before the time is up.
            with suppress(StorageError):
                begun = time.monotonic()
                self.check()
                self._store.put(self._key(self._number), _text(self._claim))
                self._renewed = begun

    def check(self) -> None:
        late = time.monotonic() - self._renewed >= LEASE
        newest = None if late else self._newest()
        if newest is None or _number(newest) != self._number:
            raise LockLostError(self._store.uri, self._name)

    def release(self) -> None:
        self.check()
        # Numbers are never used again, so the last one stays.
        free = self._claim.model_copy(update={"free": True})
        self._store.put(self._key(self._number), _text(free))

    def _newest(self) -> ObjectInfo | None:
        return max(self._store.list(self._prefix), key=_number, default=None)

    def _read(self, info: ObjectInfo) -> Claim | None:
        try:
            return Claim.model_validate_json(self._store.get(info.key, info.version))
        except (ObjectNotFoundError, ValidationError):
            return None

    @property
    def _prefix(self) -> str:
        return f"{LOCKS}{self._name}/"

    def _key(self, number: int) -> str:
        return f"{self._prefix}{number:09d}.json"


def _number(info: ObjectInfo) -> int:
    return int(info.key.rpartition("/")[2].removesuffix(".json"))


def _text(claim: Claim) -> bytes:
    return claim.model_dump_json().encode()

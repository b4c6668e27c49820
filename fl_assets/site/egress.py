"""The egress log: what leaves the hospital is written down before it leaves."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from datetime import UTC, datetime
from typing import Literal

from fl_assets.config import StrictModel
from fl_assets.storage import ObjectExistsError, ObjectNotFoundError, SiteStore
from fl_assets.storage.documents import parse_document

EgressKind = Literal[
    "profile",
    "update",
    "evaluation",
    "audit",
    "reservation",
    "secure_sum",
    "records",
    "partitions",
    "ledger",
    "erasure",
    "failure",
]
"""The typed messages of a hospital.

``records`` and ``partitions`` are manifests: counts, reasons, names of uploads and keyed versions,
which the coordinator and Dagster's UI may read from then on. ``ledger`` is the privacy ledger as
shown in Dagster, ``erasure`` the partition versions that held somebody who was erased since,
``failure`` why a task of the hospital's pod failed.
"""

PREFIX = "egress/"
INTAKE = "intake"
"""Who asks for what an intake publishes that no run asked for."""


class EgressEntry(StrictModel):
    """One message that was released.

    Attributes:
        time: UTC.
        kind: which typed message.
        run: the run that asked for it.
        detail: for people, such as the round.
        size: bytes.
        sha256: of the bytes.
        previous: SHA-256 of the entry before it; None of the first, and of those that were written
            before entries were chained.
    """

    time: datetime
    kind: EgressKind
    run: str
    detail: str
    size: int
    sha256: str
    previous: str | None = None


class EgressLog:
    """Appends to the hospital's own log; entries are never overwritten.

    Entries are numbered within a day, and each holds the hash of the one before it (Haber &
    Stornetta 1991), so :meth:`read` finds one that was edited or taken out, unless it was the
    newest.
    """

    def __init__(self, store: SiteStore) -> None:
        self._store = store
        # By day: the next number, and the hash of the entry before it.
        self._next: dict[str, tuple[int, str | None]] = {}

    def release(self, kind: EgressKind, run: str, message: bytes, detail: str = "") -> bytes:
        """Write the entry, then hand the message back for sending.

        Raises:
            StorageError: the entry could not be written; nothing may leave.
        """
        now = datetime.now(UTC)
        entry = EgressEntry(
            time=now,
            kind=kind,
            run=run,
            detail=detail,
            size=len(message),
            sha256=hashlib.sha256(message).hexdigest(),
        )
        self._append(f"{PREFIX}{now:%Y-%m-%d}/", entry)
        return message

    def publish(self, kind: EgressKind, run: str, key: str, document: bytes) -> None:
        """Store a document that others may read, written down first; the same again is nothing new.

        Raises:
            StorageError: the entry could not be written; the old document stays.
        """
        try:
            if self._store.get(key) == document:
                return
        except ObjectNotFoundError:
            pass
        self._store.put(key, self.release(kind, run, document, key))

    def _append(self, folder: str, entry: EgressEntry) -> None:
        sequence, previous = self._next.get(folder) or self._end(folder)
        while True:
            data = entry.model_copy(update={"previous": previous}).model_dump_json().encode()
            key = f"{folder}{sequence:06d}.json"
            try:
                self._store.put_if_absent(key, data)
            except ObjectExistsError:
                # Another process of this hospital took the number. Or was about to, and S3 may
                # refuse both of two at once: then the number is still free.
                with suppress(ObjectNotFoundError):
                    sequence, previous = sequence + 1, _sha256(self._store.get(key))
                continue
            # Only now: a write that fails must not leave a gap, or counting the entries would
            # later give a number in the middle.
            self._next[folder] = sequence + 1, _sha256(data)
            return

    def _end(self, folder: str) -> tuple[int, str | None]:
        """Return the next number of a day, and the hash of the newest entry there is."""
        today = self._store.list(folder)
        newest = (today or self._store.list(PREFIX))[-1:]
        return len(today), _sha256(self._store.get(newest[0].key)) if newest else None

    def read(self) -> tuple[list[EgressEntry], list[str]]:
        """Return the whole log, oldest first, and what is wrong with it, in words; empty is good.

        An entry that is missing shows by its number or in its successor's hash, and one that was
        edited in the latter. That the newest entries are missing cannot show in what is left.

        Raises:
            UnreadableDocumentError: an entry is none.
        """
        entries: list[EgressEntry] = []
        problems: list[str] = []
        expected: dict[str, int] = {}
        seen: dict[str, str] = {}
        for info in self._store.list(PREFIX):
            folder, _, name = info.key.rpartition("/")
            number, due = int(name.removesuffix(".json")), expected.get(folder, 0)
            if number != due:
                problems.append(f"{number - due} entries are missing before {info.key}")
            expected[folder] = number + 1
            data = self._store.get(info.key)
            entry = parse_document(data, EgressEntry, self._store.uri, info.key)
            # The first of a day follows on what was the newest then, where clocks differ not the
            # last of the day before.
            before = [seen.get(_key(folder, number - 1))] if number else list(seen.values())
            if number == due and entry.previous is not None and entry.previous not in before:
                problems.append(f"what {info.key} follows on was edited or is missing")
            seen[info.key] = _sha256(data)
            entries.append(entry)
        return entries, problems

    def entries(self) -> list[EgressEntry]:
        """Return the whole log, oldest first (:meth:`read`)."""
        return self.read()[0]

    def damages(self) -> list[str]:
        """Return what is wrong with the log (:meth:`read`)."""
        return self.read()[1]

    def version(self) -> str:
        """Return what stands for the whole log: the hash of its newest entry."""
        newest = self._store.list(PREFIX)[-1:]
        return _sha256(self._store.get(newest[0].key))[:16] if newest else "empty"


def _key(folder: str, number: int) -> str:
    return f"{folder}/{number:06d}.json"


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()

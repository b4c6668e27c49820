"""The egress log: what leaves the hospital is written down before it leaves."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Literal

from fl_assets.config import StrictModel
from fl_assets.storage import ObjectExistsError, SiteStore

EgressKind = Literal["profile", "update", "evaluation", "audit", "reservation", "secure_sum"]
PREFIX = "egress/"


class EgressEntry(StrictModel):
    """One message that was released.

    Attributes:
        time: UTC.
        kind: which typed message.
        run: the run that asked for it.
        detail: for people, such as the round.
        size: bytes.
        sha256: of the bytes.
    """

    time: datetime
    kind: EgressKind
    run: str
    detail: str
    size: int
    sha256: str


class EgressLog:
    """Appends to the hospital's own log; entries are never overwritten."""

    def __init__(self, store: SiteStore) -> None:
        self._store = store
        self._next: dict[str, int] = {}

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
        self._append(f"{PREFIX}{now:%Y-%m-%d}/", entry.model_dump_json().encode())
        return message

    def _append(self, folder: str, data: bytes) -> None:
        sequence = self._next.get(folder)
        if sequence is None:
            sequence = len(self._store.list(folder))
        while True:
            try:
                self._store.put_if_absent(f"{folder}{sequence:06d}.json", data)
            except ObjectExistsError:
                # Another process of this hospital took the number.
                sequence += 1
                continue
            # Only now: a write that fails must not leave a gap, or counting the entries would
            # later give a number in the middle.
            self._next[folder] = sequence + 1
            return

    def entries(self) -> list[EgressEntry]:
        """Return the whole log, oldest first."""
        keys = [info.key for info in self._store.list(PREFIX)]
        return [EgressEntry.model_validate_json(self._store.get(key)) for key in keys]

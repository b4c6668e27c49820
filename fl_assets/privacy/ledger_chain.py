"""The ledger as a chain of objects in the hospital's store, and how damage to it is seen.

Each entry holds the hash of the one before it (Haber & Stornetta 1991, section 5), so an entry that
is edited, left out or moved no longer fits its neighbours. A chain that merely ends early fits
all the same. Heads that somebody saw earlier tell: each must still be in the chain. They are the
anchor beside the ledger, which is there for a restored folder, and those that the coordinator
keeps, which are there for a restored bucket. A wrong one can only cause a refusal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from pydantic import ValidationError

from fl_assets.errors import BadDataError
from fl_assets.privacy.ledger_entries import (
    NOTHING_BEFORE,
    Act,
    LedgerEntry,
    LedgerHead,
    digest_of,
)
from fl_assets.storage import ObjectExistsError, ObjectNotFoundError, SiteStore

PREFIX = "ledger/"
ANCHOR = "ledger-anchor.json"


class LedgerDamagedError(BadDataError):
    """A ledger was edited, cut, reordered or rolled back; nothing may be charged to it."""

    def __init__(self, hospital: str, what: str) -> None:
        super().__init__(
            f"{hospital}: the privacy ledger is damaged, so nothing is released: {what}; restore "
            f"{PREFIX} and {ANCHOR} as they were last, from the store's versions or a backup, and "
            "tell the hospital's data-protection officer"
        )


def entry_key(sequence: int) -> str:
    """Return where the entry of that number is."""
    return f"{PREFIX}{sequence:06d}.json"


class LedgerChain:
    """The entries, verified as they are read and kept, so that reading again costs the new ones.

    Args:
        store: the hospital's own.
        hospital: for messages.
        witnesses: heads that were seen earlier, elsewhere.
    """

    def __init__(self, store: SiteStore, hospital: str, witnesses: Iterable[LedgerHead]) -> None:
        self._store = store
        self._hospital = hospital
        self._witnesses = tuple(witnesses)
        self._entries: list[LedgerEntry] = []
        self._digests: list[str] = []
        self._anchor: LedgerHead | None = None
        self._damaged: LedgerDamagedError | None = None

    @property
    def entries(self) -> Sequence[LedgerEntry]:
        """Those read so far, oldest first."""
        return self._entries

    @property
    def head(self) -> LedgerHead | None:
        """The newest entry read so far."""
        if not self._digests:
            return None
        return LedgerHead(sequence=len(self._digests), digest=self._digests[-1])

    def read(self) -> None:
        """Read what was appended since, and verify all of it.

        Raises:
            LedgerDamagedError: the chain is not whole, or a head seen earlier is not in it. From
                then on every call raises it.
        """
        if self._damaged is not None:
            raise self._damaged
        # Before the entries: an entry is always there before a head that names it.
        self._anchor = self._read_anchor()
        listed = frozenset(() if self._entries else (i.key for i in self._store.list(PREFIX)))
        self._check_head()
        while (data := self._next(listed)) is not None:
            self._take(data)
        self._check_listed(listed)
        if self._anchor is None and len(self._entries) > 1 and self._read_anchor() is None:
            # No second entry is written before there is an anchor.
            raise self.damage(f"{ANCHOR} is gone")
        if self._anchor is not None:
            self._check_seen(self._anchor, f"{ANCHOR} says")
        for witness in self._witnesses:
            self._check_seen(witness, "the coordinator saw")

    def append(self, act: Act) -> bool:
        """Append an entry to the chain as it was last read.

        Returns:
            Whether it was; False if another process appended first, so that what was decided must
            be decided anew.
        """
        head = self.head
        if head is not None and self._anchor is None:
            # The process that appended the first entry died, or is about to do this.
            self._put_anchor(head)
        entry = LedgerEntry(
            sequence=len(self._entries) + 1,
            time=datetime.now(UTC),
            previous=self._digests[-1] if self._digests else NOTHING_BEFORE,
            act=act,
        )
        data = entry.model_dump_json().encode()
        try:
            self._store.put_if_absent(entry_key(entry.sequence), data)
        except ObjectExistsError:
            return False
        self._take(data)
        self._put_anchor(LedgerHead(sequence=entry.sequence, digest=digest_of(data)))
        return True

    def damage(self, what: str) -> LedgerDamagedError:
        """Return the error to raise for a damage, and keep it."""
        self._damaged = LedgerDamagedError(self._hospital, what)
        return self._damaged

    def _put_anchor(self, head: LedgerHead) -> None:
        self._store.put(ANCHOR, head.model_dump_json().encode())
        self._anchor = head

    def _read_anchor(self) -> LedgerHead | None:
        try:
            return LedgerHead.model_validate_json(self._store.get(ANCHOR))
        except ObjectNotFoundError:
            return None
        except ValidationError as error:
            raise self.damage(f"{ANCHOR} cannot be read") from error

    def _check_listed(self, listed: frozenset[str]) -> None:
        """Look for objects beside the chain, such as those after a gap."""
        beside = listed - {entry_key(entry.sequence) for entry in self._entries}
        if beside:
            missing = entry_key(len(self._entries) + 1)
            raise self.damage(f"{missing} is missing, or {min(beside)} does not belong there")

    def _check_head(self) -> None:
        """Look whether the entry that the next one is to follow is still there."""
        if not self._entries:
            return
        key = entry_key(len(self._entries))
        try:
            data = self._store.get(key)
        except ObjectNotFoundError:
            raise self.damage(f"{key} was there and is gone") from None
        if digest_of(data) != self._digests[-1]:
            raise self.damage(f"{key} was edited")

    def _next(self, listed: frozenset[str]) -> bytes | None:
        """Return the bytes of the next entry, None where there is none and never was."""
        key = entry_key(len(self._entries) + 1)
        # Not by the object alone: what is deleted is kept as an older version.
        if key not in listed and not self._store.versions(key):
            return None
        try:
            return self._store.get(key)
        except ObjectNotFoundError:
            raise self.damage(f"{key} was there and is gone") from None

    def _take(self, data: bytes) -> None:
        sequence = len(self._entries) + 1
        key = entry_key(sequence)
        try:
            entry = LedgerEntry.model_validate_json(data)
        except ValidationError as error:
            raise self.damage(f"{key} cannot be read") from error
        if entry.sequence != sequence:
            raise self.damage(f"{key} holds entry {entry.sequence}")
        if entry.previous != (self._digests[-1] if self._digests else NOTHING_BEFORE):
            raise self.damage(f"{key} does not follow the entry before it: one of them was edited")
        self._entries.append(entry)
        self._digests.append(digest_of(data))

    def _check_seen(self, head: LedgerHead, who: str) -> None:
        if head.sequence > len(self._entries):
            raise self.damage(
                f"{who} {head.sequence} entries, {len(self._entries)} are there: it was cut or "
                "rolled back"
            )
        if self._digests[head.sequence - 1] != head.digest:
            raise self.damage(
                f"{entry_key(head.sequence)} is not the entry that {who}: it was edited or rolled "
                "back and written on"
            )

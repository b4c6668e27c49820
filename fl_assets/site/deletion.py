"""Deleting everything that a hospital's store holds of its patients."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

from fl_assets.privacy import ledger_chain
from fl_assets.privacy.ledger_chain import LedgerDamagedError
from fl_assets.site import egress, receipts
from fl_assets.site.erasure import TOMBSTONES
from fl_assets.site.receipts import Receipt, count_deleted, save_receipt
from fl_assets.site.rows import LOCK, SITE_KEY
from fl_assets.site.spending import settle_all_interrupted
from fl_assets.storage import ObjectInfo, SiteStore
from fl_assets.storage.base import StorageError
from fl_assets.storage.lease import LOCKS

KEPT = {
    ledger_chain.PREFIX: "what was ever spent of the patients' privacy: it stays spent",
    ledger_chain.ANCHOR: "the newest entry of the ledger",
    egress.PREFIX: "what left the hospital, without its content",
    receipts.PREFIX: "what was deleted before",
    TOMBSTONES: "fingerprints of patients erased before, so that no upload brings one back",
    SITE_KEY: "the key of these fingerprints",
    LOCKS: "which process held the store, so that no other writes meanwhile",
}
"""What stays, by the start of the key, and why. All else goes, whatever wrote it."""


class DeletionIncompleteError(StorageError):
    """Something came while everything was deleted."""

    def __init__(self, uri: str, left: int) -> None:
        super().__init__(
            f"{uri} still holds {left} versions of objects that something wrote meanwhile: stop "
            "what runs at the hospital, then delete again"
        )


def delete_data(store: SiteStore, hospital: str) -> Receipt:
    """Delete all versions of all objects but :data:`KEPT`, and store a receipt.

    It cannot be undone. Done again it deletes what has come since. Trainings that are under way are
    closed in the ledger first, while their answers can be counted; they answer no more.

    Raises:
        DeletionIncompleteError: something was written meanwhile; no receipt is stored.
        LockHeldError: another process is rewriting the hospital's rows, for too long.
        LockLostError: this process stalled and another took over; no receipt is stored.
    """
    # A ledger that is not whole refuses every run already, and must not keep the rows.
    with suppress(LedgerDamagedError):
        settle_all_interrupted(store, hospital)
    with store.lock(LOCK) as held:
        unfinished = store.discard_unfinished()
        doomed = _doomed(store)
        for key in sorted({info.key for info in doomed}):
            store.purge(key)
        left = _doomed(store)
        if left:
            raise DeletionIncompleteError(store.uri, len(left))
        deleted, sha256 = count_deleted(doomed)
        receipt = Receipt(
            kind="deletion",
            hospital=hospital,
            time=datetime.now(UTC),
            deleted=deleted,
            unfinished=unfinished,
            sha256=sha256,
            kept=KEPT,
        )
        held.check()
        save_receipt(store, receipt)
    return receipt


def _doomed(store: SiteStore) -> list[ObjectInfo]:
    return [info for info in store.history() if not _stays(info)]


def _stays(info: ObjectInfo) -> bool:
    # An empty object is a mark that a run is closed. A late process must still find it, or it
    # could release what nobody pays for.
    return info.key.startswith(tuple(KEPT)) or (
        info.key.startswith("answers/") and info.key.endswith("/closed") and info.size == 0
    )

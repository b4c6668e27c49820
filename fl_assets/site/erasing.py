"""Erasing one patient from everything that a hospital's store holds of its rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from fl_assets.cohorts.spec import CohortSpec
from fl_assets.errors import BadDataError, FlAssetsError
from fl_assets.site.erasure import add_tombstone, erased_ids, fingerprint
from fl_assets.site.intake import BlockedUploadsError, NoRecordsError, load_manifest
from fl_assets.site.receipts import Receipt, count_deleted, save_receipt
from fl_assets.site.rows import LOCK, site_key
from fl_assets.site.taking_out import TakingOut
from fl_assets.site.whereabouts import Whereabouts, search
from fl_assets.storage import ObjectInfo, ObjectNotFoundError, SiteStore
from fl_assets.storage.locks import Held


class CohortWithoutIdsError(BadDataError):
    """Nobody can be found by an id in a cohort that has none."""

    def __init__(self, cohort: str, hospital: str) -> None:
        super().__init__(
            f"cohort {cohort} has no ids, so that no row can be told to be a patient's: take the "
            f"row out of the files, `fla delete-data {hospital} --force`, and upload them anew"
        )


class UnknownPatientError(FlAssetsError):
    """No row of the hospital has the id; the message does not repeat it."""

    def __init__(self, hospital: str) -> None:
        super().__init__(
            f"{hospital} holds no row of that id, in no version of anything: compare its spelling "
            "with the uploaded file"
        )


class ErasureIncompleteError(BadDataError):
    """Something still holds the patient; there is no receipt."""

    def __init__(self, hospital: str, why: str) -> None:
        super().__init__(
            f"the patient will not come back into {hospital}'s records, but some of the rows are "
            f"still there: {why}; then erase again"
        )


@dataclass(frozen=True)
class Erasure:
    """What was done about a patient.

    Attributes:
        receipt: None where the patient had been erased before and nothing was left.
        unread: uploads that could not be looked through.
    """

    receipt: Receipt | None
    unread: tuple[str, ...]


def erase_patient(
    store: SiteStore,
    spec: CohortSpec,
    hospital: str,
    patient_id: str,
    rebuild: Callable[[Mapping[str, int]], None],
) -> Erasure:
    """Erase a patient and store a receipt; what was cut off is finished when it is done again.

    A tombstone comes first, so that no intake lets the patient in any more. Then the uploads are
    rewritten, everything is made of them anew, and only then every older version that held the
    patient is removed for good. Neither the id nor a value gets into a receipt, an error or a log.

    Args:
        store: the hospital's own.
        spec: the cohort.
        hospital: name.
        patient_id: as it stands in the uploads.
        rebuild: collects the records and makes partitions of them, given the lines that were taken
            out of each upload since the current records.

    Raises:
        CohortWithoutIdsError: the cohort has no ids.
        UnknownPatientError: nobody has that id.
        ErasureIncompleteError: an upload blocks the records, no row is left, or rows of the patient
            came meanwhile.
        UploadsKeepComingError: uploads came faster than they could be looked through.
        LockHeldError: another process is rewriting the hospital's rows, for too long.
        LockLostError: this process stalled and another took over; no receipt is stored.
    """
    if spec.id_column is None:
        raise CohortWithoutIdsError(spec.name, hospital)
    with store.lock(LOCK) as held:
        return _erase(store, spec, hospital, patient_id, rebuild, held)


def _erase(
    store: SiteStore,
    spec: CohortSpec,
    hospital: str,
    patient_id: str,
    rebuild: Callable[[Mapping[str, int]], None],
    held: Held,
) -> Erasure:
    where = search(store, spec, patient_id)
    mark = fingerprint(site_key(store), patient_id)
    if not where.held:
        if mark in erased_ids(store):
            return Erasure(None, tuple(where.unread))
        raise UnknownPatientError(hospital)
    now = datetime.now(UTC)
    add_tombstone(store, mark, where.partitions, now)
    taken_out = _taken_out(store, where)
    uploads = TakingOut(store, spec, patient_id, where)
    uploads.run()
    try:
        rebuild(taken_out)
    except BlockedUploadsError as error:
        why = f"{len(error.blocked)} uploads block the records, see `fla quarantine {hospital}`"
        raise ErasureIncompleteError(hospital, why) from None
    except NoRecordsError:
        why = f"no other row is left; `fla delete-data {hospital} --force` deletes them all"
        raise ErasureIncompleteError(hospital, why) from None
    held.check()
    removed = _remove(store, where.held + where.doubtful)
    left = search(store, spec, patient_id)
    if left.held:
        keys = ", ".join(sorted({info.key for info in left.held}))
        raise ErasureIncompleteError(hospital, f"what came meanwhile holds the patient ({keys})")
    deleted, sha256 = count_deleted(removed)
    receipt = Receipt(
        kind="erasure",
        hospital=hospital,
        time=now,
        deleted=deleted,
        sha256=sha256,
        rewritten=len(uploads.rewritten),
        rows=uploads.rows,
        partitions=tuple(sorted(where.partitions)),
        kept=_KEPT,
    )
    held.check()
    save_receipt(store, receipt)
    return Erasure(receipt, tuple(left.unread))


_KEPT = {
    "profile/": "earlier profiles: aggregates that were released",
    "noised/": "noised sums that were released",
    "personal/": "the hospital's own models, which no other sees, until they are trained anew",
    "erased.json": "a fingerprint of the id, keyed with the hospital's secret",
}


def _taken_out(store: SiteStore, where: Whereabouts) -> dict[str, int]:
    """Count the patient's lines in the uploads that the current records were made of.

    An erasure that was cut off may have rewritten them already; these versions go last.
    """
    try:
        made_of = load_manifest(store).uploads
    except ObjectNotFoundError:
        return {}
    found = {upload.key: where.uploads.get((upload.key, upload.version)) for upload in made_of}
    return {key: len(lines.spans) for key, lines in found.items() if lines is not None}


def _remove(store: SiteStore, found: list[ObjectInfo]) -> list[ObjectInfo]:
    """Remove the versions that were found, and none that came meanwhile."""
    doomed: dict[str, set[str]] = {}
    for info in found:
        doomed.setdefault(info.key, set()).add(info.version)
    for key, versions in doomed.items():
        store.purge(key, versions)
    return found

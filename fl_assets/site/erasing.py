"""Erasing one patient from everything that a hospital's store holds of its rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq

from fl_assets.cohorts.reader import TEXT
from fl_assets.cohorts.spec import CohortSpec
from fl_assets.errors import BadDataError, FlAssetsError
from fl_assets.site.erasure import add_tombstone, erased_ids, fingerprint
from fl_assets.site.intake import INCOMING, BlockedUploadsError, NoRecordsError
from fl_assets.site.receipts import Receipt, count_deleted, save_receipt
from fl_assets.site.rewriting import Found, Span, find_patient, holds, rewrite
from fl_assets.site.rows import site_key
from fl_assets.storage import ObjectInfo, SiteStore

_ROWS = 50_000
_TICK = 0.1  # seconds; of S3's times it takes ten


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
    """The uploads are rewritten, but what was made of them could not be made anew."""

    def __init__(self, hospital: str, why: str) -> None:
        super().__init__(
            f"the patient is out of {hospital}'s uploads and will not come back, but earlier "
            f"records and partitions still hold the rows: {why}; then erase again"
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


@dataclass
class _Where:
    """Where a patient's rows are.

    Attributes:
        uploads: current uploads that hold them, and where.
        held: every stored version that holds them.
        doubtful: stored versions that cannot be read, and that nobody needs.
        partitions: versions of the partitions that hold them.
        unread: current uploads that cannot be read.
    """

    uploads: list[tuple[ObjectInfo, Found]] = field(default_factory=list)
    held: list[ObjectInfo] = field(default_factory=list)
    doubtful: list[ObjectInfo] = field(default_factory=list)
    partitions: set[str] = field(default_factory=set)
    unread: list[str] = field(default_factory=list)


def erase_patient(
    store: SiteStore,
    spec: CohortSpec,
    hospital: str,
    patient_id: str,
    rebuild: Callable[[], None],
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
        rebuild: collects the records and makes partitions of them.

    Raises:
        CohortWithoutIdsError: the cohort has no ids.
        UnknownPatientError: nobody has that id.
        ErasureIncompleteError: an upload blocks the records, or no row is left.
    """
    if spec.id_column is None:
        raise CohortWithoutIdsError(spec.name, hospital)
    where = _find(store, spec, patient_id)
    mark = fingerprint(site_key(store), patient_id)
    if not where.held:
        if mark in erased_ids(store):
            return Erasure(None, tuple(where.unread))
        raise UnknownPatientError(hospital)
    now = datetime.now(UTC)
    add_tombstone(store, mark, where.partitions, now)
    _rewrite_uploads(store, dict(where.uploads))
    try:
        rebuild()
    except BlockedUploadsError as error:
        why = f"{len(error.blocked)} uploads block the records, see `fla quarantine {hospital}`"
        raise ErasureIncompleteError(hospital, why) from None
    except NoRecordsError:
        why = f"no other row is left; `fla delete-data {hospital} --force` deletes them all"
        raise ErasureIncompleteError(hospital, why) from None
    removed = _remove(store, where.held + where.doubtful)
    deleted, sha256 = count_deleted(removed)
    receipt = Receipt(
        kind="erasure",
        hospital=hospital,
        time=now,
        deleted=deleted,
        sha256=sha256,
        rewritten=sum(found.others > 0 for _, found in where.uploads),
        rows=sum(len(found.spans) for _, found in where.uploads),
        partitions=tuple(sorted(where.partitions)),
        kept=_KEPT,
    )
    save_receipt(store, receipt)
    return Erasure(receipt, tuple(where.unread))


_KEPT = {
    "profile/": "earlier profiles: aggregates that were released",
    "noised/": "noised sums that were released",
    "personal/": "the hospital's own models, which no other sees, until they are trained anew",
    "erased.json": "a fingerprint of the id, keyed with the hospital's secret",
}


def _find(store: SiteStore, spec: CohortSpec, patient_id: str) -> _Where:
    where = _Where()
    current = {(info.key, info.version) for info in store.list()}
    for info in store.history():
        if info.key.startswith(INCOMING):
            is_current = (info.key, info.version) in current
            _find_in_upload(store, info, spec, patient_id, where, is_current)
        elif info.key.endswith(".parquet"):
            _find_in_rows(store, info, spec, patient_id, where)
    return where


def _find_in_upload(
    store: SiteStore,
    info: ObjectInfo,
    spec: CohortSpec,
    patient_id: str,
    where: _Where,
    is_current: bool,
) -> None:
    try:
        found = find_patient(store, info, spec, patient_id)
    except BadDataError:
        if is_current:
            where.unread.append(info.key)
        else:
            where.doubtful.append(info)
        return
    if found.spans:
        where.held.append(info)
        if is_current:
            where.uploads.append((info, found))


def _find_in_rows(
    store: SiteStore, info: ObjectInfo, spec: CohortSpec, patient_id: str, where: _Where
) -> None:
    """Look through a stored file of rows; only the columns that tell are read."""
    with store.open(info.key, info.version) as stream:
        try:
            file = pq.ParquetFile(stream)
            present = [c for c in (spec.key_column, TEXT) if c in file.schema_arrow.names]
            batches = file.iter_batches(_ROWS, columns=present)
            frames = (batch.to_pandas() for batch in batches)
            found = any(holds(frame, spec.key_column, patient_id).any() for frame in frames)
        except (pa.ArrowException, OSError):
            # It is damaged, and will be made anew.
            where.doubtful.append(info)
            return
    if found:
        where.held.append(info)
        folder, version, *_ = info.key.split("/")
        if folder == "partitions":
            where.partitions.add(version)


def _rewrite_uploads(store: SiteStore, uploads: Mapping[ObjectInfo, Found]) -> None:
    """Take the patient out of the uploads.

    The latest upload wins where several have one id, so those after the first rewritten one are
    stored anew as well, in their order.
    """
    newest: datetime | None = None
    for info in sorted(store.list(INCOMING), key=lambda info: (info.modified, info.key)):
        found = uploads.get(info)
        if found is not None and not found.others:
            # A file without a row would be refused, and block the records.
            store.delete(info.key)
        elif found is not None or newest is not None:
            newest = _rewrite_after(newest, store, info, found.spans if found else [])


def _rewrite_after(
    newest: datetime | None, store: SiteStore, info: ObjectInfo, spans: list[Span]
) -> datetime:
    """Store an upload anew until it is later than ``newest``; a store's clock may tick slowly."""
    while True:
        rewrite(store, info, spans)
        modified = store.versions(info.key)[0].modified
        if newest is None or modified > newest:
            return modified
        time.sleep(_TICK)


def _remove(store: SiteStore, held: list[ObjectInfo]) -> list[ObjectInfo]:
    """Remove every version of the keys, but the current one where it is none of them."""
    gone = {(info.key, info.version) for info in held}
    current = {info.key: info.version for info in store.list()}
    removed = []
    for key in sorted({info.key for info in held}):
        keep = current.get(key)
        if (key, keep) in gone:
            keep = None
        removed += [info for info in store.versions(key) if info.version != keep]
        store.purge(key, keep)
    return removed

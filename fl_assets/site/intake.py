"""Intake: every upload of a hospital, validated, deduplicated by id, quarantine beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from pydantic import Field

from fl_assets.cohorts.contract import Counts
from fl_assets.cohorts.spec import CohortSpec
from fl_assets.config import StrictModel
from fl_assets.consortium import IntakeRules
from fl_assets.errors import BadDataError
from fl_assets.site import egress, rows
from fl_assets.site.egress import EgressLog
from fl_assets.site.gathering import Engine, Gathered, gather
from fl_assets.site.upload_rows import QUARANTINE, aside_key
from fl_assets.site.uploads import ERASED, INCOMING, Upload, is_upload, list_uploads
from fl_assets.storage import ObjectNotFoundError, SiteStore
from fl_assets.storage.documents import load_document
from fl_assets.storage.locks import Held

__all__ = [
    "INCOMING",
    "INTAKE",
    "MANIFEST",
    "QUARANTINE",
    "BlockedUploadsError",
    "Intake",
    "NoRecordsError",
    "RecordsManifest",
    "Upload",
    "collect_records",
    "current_version",
    "has_new_uploads",
    "is_upload",
    "load_intake",
    "load_manifest",
]

MANIFEST = "records/manifest.json"
INTAKE = "records/intake.json"
DEFAULT_RULES = IntakeRules()
NOTHING: Mapping[str, int] = MappingProxyType({})


class NoRecordsError(BadDataError):
    """No upload of the hospital holds a row that fits the contract."""

    def __init__(self, uri: str, cohort: str, uploads: Sequence[Upload]) -> None:
        why = "; ".join(upload.refused or _no_row_fits(upload) for upload in uploads)
        super().__init__(
            f"{uri} has no usable row in {INCOMING} ({why or 'no upload at all'}): upload a file "
            f"that fits cohort {cohort}; check one first with `fla validate FILE`"
        )


class BlockedUploadsError(BadDataError):
    """Uploads that must be corrected or taken back before the records may change."""

    def __init__(self, uri: str, blocked: dict[str, str]) -> None:
        why = "; ".join(f"{key}: {reason}" for key, reason in blocked.items())
        super().__init__(
            f"{uri}: the records stay as they are, for {len(blocked)} uploads block them ({why}): "
            "see the rows with `fla quarantine HOSPITAL`, then correct the files and upload them "
            "again under their names, or delete them"
        )
        self.blocked = blocked


class RecordsManifest(StrictModel):
    """The current records of a hospital.

    Attributes:
        version: content hash of the accepted rows; names the Parquet file.
        sha256: of that file.
        contract: version of the cohort spec that they fit.
        rows: accepted rows, one per id.
        superseded: accepted rows of earlier uploads that a later one replaced.
        uploads: in the order they arrived.
    """

    version: str
    sha256: str
    contract: str
    rows: int
    superseded: int
    uploads: tuple[Upload, ...]

    @property
    def key(self) -> str:
        """Where the rows are."""
        return _key(self.version)

    @property
    def counts(self) -> Counts:
        """Where every uploaded row went."""
        return Counts(
            rows_in=sum(u.rows_in for u in self.uploads),
            accepted=self.rows,
            quarantined=sum(u.quarantined for u in self.uploads),
            duplicates=sum(u.duplicates for u in self.uploads) + self.superseded,
        )

    @property
    def reasons(self) -> dict[str, int]:
        """Rows held back over all uploads, by reason, most frequent first."""
        total: Counter[str] = Counter()
        for upload in self.uploads:
            total.update(upload.reasons)
        return dict(total.most_common())


class Intake(StrictModel):
    """What the last look at ``incoming/`` found, whether or not it led to new records.

    Attributes:
        uploads: in the order they arrived.
        ignored: keys of objects that are no uploads, see
            :func:`fl_assets.site.uploads.is_upload`.
        blocked: by key, why an upload keeps the records from changing; empty where nothing does.
        records: version of the records that are current since; None if there are none.
    """

    uploads: tuple[Upload, ...] = ()
    ignored: tuple[str, ...] = ()
    blocked: dict[str, str] = Field(default_factory=dict)
    records: str | None = None


def collect_records(
    store: SiteStore,
    spec: CohortSpec,
    rules: IntakeRules = DEFAULT_RULES,
    engine: Engine = gather,
    run: str = egress.INTAKE,
    taken_out: Mapping[str, int] = NOTHING,
) -> RecordsManifest:
    """Read every upload, keep the rows that fit (of an id the latest) and store them.

    A file that cannot be read at all is refused by itself; the others count. Running it again on
    the same uploads stores the same bytes under the same names. Rows of erased patients go into
    quarantine without their content. Memory does not grow with the number of rows.

    Args:
        store: the hospital's.
        spec: the cohort.
        rules: when uploads are not let in.
        engine: what reads and sorts; the outcome is the same.
        run: who asks, for the egress log.
        taken_out: rows that an erasure took out since the current records, by upload; they are no
            loss in the sense of the rules.

    Returns:
        The manifest, written after all it names: readers believe only manifests.

    Raises:
        BlockedUploadsError: an upload has too many bad rows, or lost too many of those that were
            accepted under its key, as when it is refused. The records stay as they are.
        NoRecordsError: no row at all fits. The records stay as they are.
        LockHeldError: another process is rewriting the hospital's rows, for too long.
        LockLostError: this process stalled and another took over; nothing was published.
    """
    with store.lock(rows.LOCK) as held:
        return _collect(store, spec, rules, engine, run, taken_out, held)


def _collect(
    store: SiteStore,
    spec: CohortSpec,
    rules: IntakeRules,
    engine: Engine,
    run: str,
    taken_out: Mapping[str, int],
    held: Held,
) -> RecordsManifest:
    current = _current(store)
    known = {upload.key for upload in load_intake(store).uploads}
    listed = list_uploads(store, known)
    taken = {info.key for info in listed}
    with engine(store, spec, listed) as gathered:
        blocked = _blocked(gathered.uploads, current, rules, taken_out)
        manifest = None
        if not blocked and gathered.records.rows:
            held.check()
            manifest = _store_records(store, spec, gathered, run, held)
    _clear_quarantine(store, gathered.uploads)
    # Last: until the report is there, the uploads count as new.
    report = Intake(
        uploads=gathered.uploads,
        ignored=tuple(i.key for i in store.list(INCOMING) if i.key not in taken),
        blocked=blocked,
        records=current_version(store),
    )
    text = report.model_dump_json(indent=2).encode()
    held.check()
    EgressLog(store).publish("records", run, INTAKE, text)
    if blocked:
        raise BlockedUploadsError(store.uri, blocked)
    if manifest is None:
        raise NoRecordsError(store.uri, spec.name, gathered.uploads)
    return manifest


def _blocked(
    uploads: Sequence[Upload],
    current: RecordsManifest | None,
    rules: IntakeRules,
    taken_out: Mapping[str, int],
) -> dict[str, str]:
    """Return the uploads that keep the records from changing, and why."""
    before = {u.key: u.accepted for u in current.uploads} if current else {}
    blocked = {}
    for upload in uploads:
        had = before.get(upload.key, 0)
        erased = upload.reasons.get(ERASED, 0) + taken_out.get(upload.key, 0)
        lost = had - upload.accepted - erased
        if upload.refused and had:
            blocked[upload.key] = f"its accepted rows would be lost, for {upload.refused}"
        elif upload.bad_share > rules.max_quarantined:
            blocked[upload.key] = (
                f"{upload.quarantined} of {upload.rows_in} rows are in quarantine, more than "
                f"{rules.max_quarantined:.0%}: {_told(upload.reasons)}"
            )
        elif lost > rules.max_lost * had:
            blocked[upload.key] = (
                f"{lost} of the {had} rows that were accepted under this name are missing, more "
                f"than {rules.max_lost:.0%}: upload the whole file, delete the object if its rows "
                "are to go, or raise intake.max_lost in consortium.yaml"
            )
    return blocked


def _store_records(
    store: SiteStore, spec: CohortSpec, gathered: Gathered, run: str, held: Held
) -> RecordsManifest:
    version = rows.keyed_version(store, gathered.records.finish())
    manifest = RecordsManifest(
        version=version,
        sha256=gathered.records.store(_key(version)),
        contract=spec.version,
        rows=gathered.records.rows,
        superseded=gathered.superseded,
        uploads=gathered.uploads,
    )
    text = manifest.model_dump_json(indent=2).encode()
    held.check()
    EgressLog(store).publish("records", run, MANIFEST, text)
    return manifest


def _clear_quarantine(store: SiteStore, uploads: Sequence[Upload]) -> None:
    """Delete what an upload that was replaced or taken back has left there.

    It would be mistaken for the present one's.
    """
    kept = {aside_key(upload.key, "rows") for upload in uploads if upload.quarantined}
    kept |= {aside_key(upload.key, "duplicates") for upload in uploads if upload.duplicates}
    for info in store.list(QUARANTINE):
        if info.key not in kept:
            store.delete(info.key)


def _no_row_fits(upload: Upload) -> str:
    return f"{upload.key}: all {upload.rows_in} rows are in quarantine: {_told(upload.reasons)}"


def _told(reasons: dict[str, int]) -> str:
    return ", ".join(f"{reason} in {n} rows" for reason, n in reasons.items())


def _key(version: str) -> str:
    return f"records/{version}.parquet"


def _current(store: SiteStore) -> RecordsManifest | None:
    try:
        return load_manifest(store)
    except ObjectNotFoundError:
        return None


def current_version(store: SiteStore) -> str | None:
    """Return the version of the current records, None if there are none."""
    current = _current(store)
    return None if current is None else current.version


def has_new_uploads(store: SiteStore) -> bool:
    """Tell whether ``incoming/`` holds something else than the last intake looked at.

    Needs the right to list ``incoming/`` and to read the intake's report, and no row.
    """
    known = {(upload.key, upload.version) for upload in load_intake(store).uploads}
    listed = list_uploads(store, {key for key, _ in known})
    return {(info.key, info.version) for info in listed} != known


def load_intake(store: SiteStore) -> Intake:
    """Return the report of the last intake, an empty one if there was none.

    Raises:
        UnreadableDocumentError: it is damaged or from another release.
    """
    try:
        return load_document(store, INTAKE, Intake)
    except ObjectNotFoundError:
        return Intake()


def load_manifest(store: SiteStore) -> RecordsManifest:
    """Return the current records manifest.

    Raises:
        ObjectNotFoundError: the hospital's records were never collected.
        UnreadableDocumentError: the manifest is damaged or from another release.
    """
    return load_document(store, MANIFEST, RecordsManifest)

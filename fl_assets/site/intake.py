"""Intake: every upload of a hospital, validated, deduplicated by id, quarantine beside it."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict

import pandas as pd
from pydantic import Field

from fl_assets.cohorts.contract import Checked, Counts, check_rows
from fl_assets.cohorts.reader import read_rows as read_text_rows
from fl_assets.cohorts.spec import CohortSpec
from fl_assets.config import StrictModel
from fl_assets.errors import BadDataError
from fl_assets.site import rows
from fl_assets.storage import ObjectNotFoundError, SiteStore

INCOMING = "incoming/"
QUARANTINE = "quarantine/"
MANIFEST = "records/manifest.json"


class NoRecordsError(BadDataError):
    """No upload of the hospital holds a row that fits the contract."""


class Upload(StrictModel):
    """What became of one uploaded file.

    Attributes:
        key, version: the object, as stored.
        rows_in, accepted, quarantined, duplicates: as in
            :class:`fl_assets.cohorts.contract.Counts`, within the file.
        reasons: rows held back, by reason.
        refused: why the whole file was refused, or None.
    """

    key: str
    version: str
    rows_in: int = 0
    accepted: int = 0
    quarantined: int = 0
    duplicates: int = 0
    reasons: dict[str, int] = Field(default_factory=dict)
    refused: str | None = None


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


def collect_records(store: SiteStore, spec: CohortSpec) -> RecordsManifest:
    """Read every upload, keep the rows that fit (of an id the latest) and store them.

    A file that cannot be read at all is refused by itself, with its reason in the manifest; the
    others count. Running it again on the same uploads stores the same bytes under the same names.

    Returns:
        The manifest, written last: readers believe only manifests.

    Raises:
        NoRecordsError: no row at all fits.
    """
    uploads: list[Upload] = []
    accepted: list[pd.DataFrame] = []
    kept: set[str] = set()
    for info in sorted(store.list(INCOMING), key=lambda i: (i.modified, i.key)):
        try:
            raw = read_text_rows(store.get(info.key, info.version), spec, info.key)
        except BadDataError as error:
            uploads.append(Upload(key=info.key, version=info.version, refused=str(error)))
            continue
        checked = check_rows(raw, spec)
        uploads.append(
            Upload(
                key=info.key,
                version=info.version,
                **asdict(checked.counts),
                reasons=checked.reasons,
            )
        )
        accepted.append(checked.accepted)
        kept |= _set_aside(store, info.key, checked)
    manifest = _store_records(store, spec, uploads, accepted)
    # What an upload that was replaced or taken back had left here would be mistaken for its own.
    for info in store.list(QUARANTINE):
        if info.key not in kept:
            store.delete(info.key)
    return manifest


def _set_aside(store: SiteStore, upload: str, checked: Checked) -> set[str]:
    """Store the rows of an upload that do not count; return the keys."""
    folder = f"{QUARANTINE}{upload.removeprefix(INCOMING)}"
    frames = {
        f"{folder}/rows.parquet": checked.quarantine,
        f"{folder}/duplicates.parquet": checked.duplicates,
    }
    filled = {key: frame for key, frame in frames.items() if len(frame)}
    for key, frame in filled.items():
        rows.write_rows(store, key, frame)
    return set(filled)


def _store_records(
    store: SiteStore, spec: CohortSpec, uploads: list[Upload], accepted: list[pd.DataFrame]
) -> RecordsManifest:
    if not sum(len(frame) for frame in accepted):
        why = "; ".join(upload.refused or _no_row_fits(upload) for upload in uploads)
        raise NoRecordsError(
            f"{store.uri} has no usable row in {INCOMING} ({why or 'no upload at all'}): upload a "
            f"file that fits cohort {spec.name}; check one first with `fla validate FILE`"
        )
    everything = pd.concat(accepted, ignore_index=True)
    # The frames stand in the order of the uploads, so the last row of an id is the latest.
    latest = everything.drop_duplicates(spec.id_column, keep="last")
    # Sorted by id, so that the order of uploads leaves no trace in the version.
    records = latest.sort_values(spec.id_column).reset_index(drop=True)
    version = rows.content_hash(records)
    manifest = RecordsManifest(
        version=version,
        sha256=rows.write_rows(store, _key(version), records),
        contract=spec.version,
        rows=len(records),
        superseded=len(everything) - len(records),
        uploads=tuple(uploads),
    )
    store.put(MANIFEST, manifest.model_dump_json(indent=2).encode())
    return manifest


def _no_row_fits(upload: Upload) -> str:
    reasons = ", ".join(f"{reason} in {n} rows" for reason, n in upload.reasons.items())
    return f"{upload.key}: all {upload.rows_in} rows are in quarantine: {reasons}"


def _key(version: str) -> str:
    return f"records/{version}.parquet"


def has_new_uploads(store: SiteStore) -> bool:
    """Tell whether ``incoming/`` holds something else than the current records were made from.

    Needs the right to list ``incoming/`` and to read the manifest, and no row.
    """
    present = {(info.key, info.version) for info in store.list(INCOMING)}
    try:
        known = {(upload.key, upload.version) for upload in load_manifest(store).uploads}
    except ObjectNotFoundError:
        return bool(present)
    return present != known


def load_manifest(store: SiteStore) -> RecordsManifest:
    """Return the current records manifest.

    Raises:
        ObjectNotFoundError: the hospital's records were never collected.
    """
    return RecordsManifest.model_validate_json(store.get(MANIFEST))

"""Where a patient's rows are, in every version of everything that a hospital's store holds."""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from fl_assets.cohorts.reader import TEXT
from fl_assets.cohorts.spec import CohortSpec
from fl_assets.errors import BadDataError
from fl_assets.site.rewriting import Found, find_patient, holds
from fl_assets.site.uploads import INCOMING
from fl_assets.storage import ObjectInfo, SiteStore

_ROWS = 50_000

Version = tuple[str, str]
"""Key and version of an object."""


def version_of(info: ObjectInfo) -> Version:
    """Return what names a stored version, whose time two answers of S3 may tell differently."""
    return info.key, info.version


@dataclass
class Whereabouts:
    """Where a patient's rows are.

    Attributes:
        seen: versions of uploads that were looked through.
        uploads: those that hold them, and where in them.
        held: every stored version that holds them, uploads among them.
        doubtful: stored versions that cannot be read, and that nobody needs.
        partitions: versions of the partitions that hold them.
        unread: keys of current uploads that cannot be read.
    """

    seen: set[Version] = field(default_factory=set)
    uploads: dict[Version, Found] = field(default_factory=dict)
    held: list[ObjectInfo] = field(default_factory=list)
    doubtful: list[ObjectInfo] = field(default_factory=list)
    partitions: set[str] = field(default_factory=set)
    unread: list[str] = field(default_factory=list)

    def look_into_upload(
        self, store: SiteStore, info: ObjectInfo, spec: CohortSpec, patient_id: str, current: bool
    ) -> None:
        """Look through a version of an upload; one that is current is needed, readable or not."""
        self.seen.add(version_of(info))
        try:
            found = find_patient(store, info, spec, patient_id)
        except BadDataError:
            if current:
                self.unread.append(info.key)
            else:
                self.doubtful.append(info)
            return
        if found.spans:
            self.held.append(info)
            self.uploads[version_of(info)] = found

    def look_into_rows(
        self, store: SiteStore, info: ObjectInfo, spec: CohortSpec, patient_id: str
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
                self.doubtful.append(info)
                return
        if found:
            self.held.append(info)
            folder, version, *_ = info.key.split("/")
            if folder == "partitions":
                self.partitions.add(version)


def search(store: SiteStore, spec: CohortSpec, patient_id: str) -> Whereabouts:
    """Look for a patient in every version of every upload and every file of rows."""
    where = Whereabouts()
    current = {version_of(info) for info in store.list()}
    for info in store.history():
        if info.key.startswith(INCOMING):
            is_current = version_of(info) in current
            where.look_into_upload(store, info, spec, patient_id, is_current)
        elif info.key.endswith(".parquet"):
            where.look_into_rows(store, info, spec, patient_id)
    return where

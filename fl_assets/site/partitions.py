"""Train, validation and test partitions of a hospital's records."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fl_assets.cohorts.spec import CohortSpec
from fl_assets.config import StrictModel
from fl_assets.consortium import SplitFractions
from fl_assets.site import intake, rows
from fl_assets.storage import ObjectNotFoundError, SiteStore

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")
MANIFEST = "partitions/manifest.json"


class PartitionFile(StrictModel):
    """One Parquet file of a partition version."""

    key: str
    sha256: str
    rows: int


class PartitionManifest(StrictModel):
    """The current partitions of a hospital.

    Attributes:
        version: content hash over the three parts.
        records: version of the records they were dealt from.
        contract: version of the cohort spec.
        files: by part.
    """

    version: str
    records: str
    contract: str
    files: dict[Part, PartitionFile]

    @property
    def rows(self) -> int:
        """Rows over all parts."""
        return sum(file.rows for file in self.files.values())


def deal_parts(ids: Iterable[str], fractions: SplitFractions) -> NDArray[np.str_]:
    """Return the part of every id.

    A record's part is a keyed hash of its id alone (BLAKE2b, RFC 7693 section 2.5, as a fraction
    of its range), so it never changes side when other records come or go.

    Returns:
        Array [n] of part names.
    """
    # A key of BLAKE2b has at most 64 bytes, a salt any length.
    key = hashlib.sha256(fractions.salt.encode()).digest()
    digests = (hashlib.blake2b(i.encode(), digest_size=8, key=key).digest() for i in ids)
    place = np.array([int.from_bytes(d, "big") / 2**64 for d in digests])
    edges = [fractions.train, fractions.train + fractions.validation]
    parts: NDArray[np.str_] = np.array(PARTS)[np.digitize(place, edges)]
    return parts


def build_partitions(
    store: SiteStore, spec: CohortSpec, fractions: SplitFractions
) -> PartitionManifest:
    """Deal the hospital's current records to train, validation and test, and store them.

    Raises:
        ObjectNotFoundError: the records were never collected.
        DamagedRowsError: their file has changed since.
    """
    manifest = intake.load_manifest(store)
    records = rows.read_rows(store, manifest.key, manifest.sha256)
    parts = deal_parts(records[spec.id_column], fractions)
    return write_partitions(store, records, parts, spec, manifest.version)


def write_partitions(
    store: SiteStore,
    records: pd.DataFrame,
    parts: NDArray[np.str_],
    spec: CohortSpec,
    records_version: str,
) -> PartitionManifest:
    """Store records under the given parts [n]; the manifest goes last."""
    frames = {part: records[parts == part].reset_index(drop=True) for part in PARTS}
    joined = "".join(rows.content_hash(frame) for frame in frames.values())
    version = hashlib.sha256(joined.encode()).hexdigest()[:16]
    files = {}
    for part, frame in frames.items():
        key = f"partitions/{version}/{part}.parquet"
        files[part] = PartitionFile(
            key=key, sha256=rows.write_rows(store, key, frame), rows=len(frame)
        )
    manifest = PartitionManifest(
        version=version, records=records_version, contract=spec.version, files=files
    )
    text = manifest.model_dump_json(indent=2).encode()
    store.put(f"partitions/{version}/manifest.json", text)
    store.put(MANIFEST, text)
    return manifest


def load_manifest(store: SiteStore) -> PartitionManifest:
    """Return the current partition manifest.

    Raises:
        ObjectNotFoundError: the partitions were never built.
    """
    return PartitionManifest.model_validate_json(store.get(MANIFEST))


def load_part(store: SiteStore, manifest: PartitionManifest, part: Part) -> pd.DataFrame:
    """Return the rows of one part of that version.

    Raises:
        DamagedRowsError: the file is not the one that the manifest names.
    """
    file = manifest.files[part]
    return rows.read_rows(store, file.key, file.sha256)


def verify(store: SiteStore, spec: CohortSpec) -> list[str]:
    """Compare the stored partitions with their manifest and with the records.

    Rows are compared with the records as long as these are the ones that were dealt.

    Returns:
        What is wrong, in words: a file that changed, rows in two parts, rows lost. Empty is good.

    Raises:
        ObjectNotFoundError: there are no partitions or no records.
        DamagedRowsError: the file of the records has changed.
    """
    manifest, records = load_manifest(store), intake.load_manifest(store)
    problems = []
    seen: list[str] = []
    for part, file in manifest.files.items():
        try:
            frame = load_part(store, manifest, part)
        except (rows.DamagedRowsError, ObjectNotFoundError) as error:
            problems.append(str(error))
            continue
        if len(frame) != file.rows:
            problems.append(f"{part} holds {len(frame)} rows, the manifest says {file.rows}")
        seen += frame[spec.id_column].tolist()
    if len(set(seen)) != len(seen):
        problems.append(f"{len(seen) - len(set(seen))} rows are in more than one part")
    if not problems and manifest.records == records.version:
        ids = set(rows.read_rows(store, records.key, records.sha256)[spec.id_column])
        lost, strange = len(ids - set(seen)), len(set(seen) - ids)
        if lost or strange:
            problems.append(f"{lost} records are in no part, {strange} rows are no record")
    return problems

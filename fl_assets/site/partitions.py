"""Train, validation and test partitions of a hospital's records."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fl_assets.cohorts.spec import CohortSpec
from fl_assets.config import StrictModel
from fl_assets.consortium import SplitFractions
from fl_assets.site import egress, intake, rows
from fl_assets.site.egress import EgressLog
from fl_assets.site.runs import SortedRuns
from fl_assets.site.upload_rows import stored_schema
from fl_assets.storage import ObjectNotFoundError, SiteStore
from fl_assets.storage.documents import load_document
from fl_assets.storage.locks import Held

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")
MANIFEST = "partitions/manifest.json"
_RECORD = "_record"


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
    keyed = hashlib.blake2b(digest_size=8, key=key)
    digests = []
    for text in map(str.encode, ids):
        digest = keyed.copy()  # a third faster than a new one
        digest.update(text)
        digests.append(digest.digest())
    place = np.frombuffer(b"".join(digests), ">u8") / 2**64
    edges = [fractions.train, fractions.train + fractions.validation]
    parts: NDArray[np.str_] = np.array(PARTS)[np.digitize(place, edges)]
    return parts


def build_partitions(
    store: SiteStore, spec: CohortSpec, fractions: SplitFractions, run: str = egress.INTAKE
) -> PartitionManifest:
    """Deal the hospital's current records to train, validation and test, and store them.

    Args:
        store: the hospital's.
        spec: the cohort.
        fractions: of the parts.
        run: who asks, for the egress log.

    Raises:
        ObjectNotFoundError: the records were never collected.
        DamagedRowsError: their file has changed since.
        LockHeldError: another process is rewriting the hospital's rows, for too long.
        LockLostError: this process stalled and another took over; nothing was published.
    """
    with store.lock(rows.LOCK) as held:
        manifest = intake.load_manifest(store)
        records = rows.read_batches(store, manifest.key, manifest.sha256)
        dealt = (
            (batch, deal_parts(batch[spec.key_column].to_pylist(), fractions)) for batch in records
        )
        written = _write(store, dealt, spec, manifest.version, held)
        EgressLog(store).publish("partitions", run, MANIFEST, _text(written))
    return written


def write_partitions(
    store: SiteStore,
    records: pd.DataFrame,
    parts: NDArray[np.str_],
    spec: CohortSpec,
    records_version: str,
) -> PartitionManifest:
    """Store records under the given parts [n]; the manifest goes last."""
    with store.lock(rows.LOCK) as held:
        written = _write(store, [(rows.table_of(records), parts)], spec, records_version, held)
        store.put(MANIFEST, _text(written))
    return written


def _write(
    store: SiteStore,
    dealt: Iterable[tuple[pa.Table, NDArray[np.str_]]],
    spec: CohortSpec,
    records_version: str,
    held: Held,
) -> PartitionManifest:
    """Store the files of a version; the caller publishes it as the current one."""
    with ExitStack() as stack:
        schema = stored_schema(spec)
        writers = {part: stack.enter_context(rows.RowWriter(store, schema)) for part in PARTS}
        for table, parts in dealt:
            for part, writer in writers.items():
                writer.write(table.filter(pa.array(parts == part)).select(schema.names))
        with ThreadPoolExecutor(len(writers)) as pool:
            content = b"".join(pool.map(rows.RowWriter.finish, writers.values()))
        version = rows.keyed_version(store, content)
        held.check()
        files = {}
        for part, writer in writers.items():
            key = f"partitions/{version}/{part}.parquet"
            files[part] = PartitionFile(key=key, sha256=writer.store(key), rows=writer.rows)
    manifest = PartitionManifest(
        version=version, records=records_version, contract=spec.version, files=files
    )
    store.put(f"partitions/{version}/manifest.json", _text(manifest))
    held.check()
    return manifest


def _text(manifest: PartitionManifest) -> bytes:
    return manifest.model_dump_json(indent=2).encode()


def load_manifest(store: SiteStore) -> PartitionManifest:
    """Return the current partition manifest.

    Raises:
        ObjectNotFoundError: the partitions were never built.
        UnreadableDocumentError: the manifest is damaged or from another release.
    """
    return load_document(store, MANIFEST, PartitionManifest)


def load_part(store: SiteStore, manifest: PartitionManifest, part: Part) -> pd.DataFrame:
    """Return the rows of one part of that version.

    Raises:
        DamagedRowsError: the file is not the one that the manifest names.
    """
    file = manifest.files[part]
    return rows.read_rows(store, file.key, file.sha256)


def read_part(
    store: SiteStore,
    manifest: PartitionManifest,
    part: Part,
    columns: Sequence[str] | None = None,
) -> Iterator[pa.Table]:
    """Yield the rows of one part of that version, some at a time; all columns if None.

    Raises:
        DamagedRowsError: as :func:`load_part`.
    """
    file = manifest.files[part]
    return rows.read_batches(store, file.key, file.sha256, columns)


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
    key, problems = spec.key_column, []
    with SortedRuns(key) as runs:
        for part, file in manifest.files.items():
            held = 0
            try:
                for ids in read_part(store, manifest, part, [key]):
                    held += len(ids)
                    runs.add(_marked(ids, record=False))
            except (rows.DamagedRowsError, ObjectNotFoundError) as error:
                problems.append(str(error))
                continue
            if held != file.rows:
                problems.append(f"{part} holds {held} rows, the manifest says {file.rows}")
        compared = not problems and manifest.records == records.version
        if compared:
            for ids in rows.read_batches(store, records.key, records.sha256, [key]):
                runs.add(_marked(ids, record=True))
        twice, lost, strange = _compare(runs, key)
    if twice:
        problems.append(f"{twice} rows are in more than one part")
    elif compared and (lost or strange):
        problems.append(f"{lost} records are in no part, {strange} rows are no record")
    return problems


def _marked(ids: pa.Table, *, record: bool) -> pa.Table:
    return ids.append_column(_RECORD, pa.repeat(record, len(ids)))


def _compare(runs: SortedRuns, key: str) -> tuple[int, int, int]:
    """Count rows dealt more than once, records not dealt, and rows dealt that are no record."""
    twice = lost = strange = 0
    for ids in runs.merge():
        dealt = ids.filter(pc.invert(ids[_RECORD]))[key]
        records = ids.filter(ids[_RECORD])[key]
        distinct = pc.unique(dealt)
        both = pc.is_in(distinct, records.combine_chunks()).true_count
        twice += len(dealt) - len(distinct)
        lost += len(records) - both
        strange += len(distinct) - both
    return twice, lost, strange

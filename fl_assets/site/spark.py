"""Gathering uploads on a Spark cluster: more rows than one machine takes.

The rows of an upload are read and checked by one task, and the ids are sorted by as many as Spark
has partitions. Every step is made of the functions that
:func:`fl_assets.site.gathering.gather` calls, so the outcome is the same to the byte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa
from pyspark.sql import SparkSession
from pyspark.sql.functions import col
from pyspark.sql.pandas.types import from_arrow_schema
from pyspark.storagelevel import StorageLevel

from fl_assets.cohorts.reader import LINE
from fl_assets.cohorts.spec import CohortSpec
from fl_assets.site.duplicates import Duplicates, latest, told_apart
from fl_assets.site.erased_rows import ErasedRows
from fl_assets.site.gathering import Gathered, refused_among
from fl_assets.site.rows import RowWriter
from fl_assets.site.runs import SortedRuns
from fl_assets.site.upload_rows import UPLOAD, UploadRows, stored_schema
from fl_assets.site.uploads import Upload
from fl_assets.storage import Access, ObjectInfo, SiteStore, open_store

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_REPORT = "_report"
_DOUBLE = "_double"
_ROWS = "_rows"

_PACKED = pa.schema([(_DOUBLE, pa.bool_()), (_ROWS, pa.binary())])

Batches = Iterable[pa.RecordBatch]


@dataclass(frozen=True)
class SparkEngine:
    """Gathers uploads on Spark (:class:`fl_assets.site.gathering.Engine`).

    Executors open the hospital's store themselves; the driver writes the files, from one range of
    ids at a time.

    Attributes:
        access: as whom the store is opened.
    """

    access: Access

    @contextmanager
    def __call__(
        self, store: SiteStore, spec: CohortSpec, infos: Sequence[ObjectInfo]
    ) -> Iterator[Gathered]:
        """Gather uploads on the session that is there, or on one as Spark's configuration says."""
        session = SparkSession.builder.appName("fl-assets-intake").getOrCreate()
        opened = partial(open_store, store.uri, self.access)
        with ExitStack() as stack:
            duplicates = stack.enter_context(Duplicates(store, spec, infos))
            records = stack.enter_context(RowWriter(store, stored_schema(spec)))
            read = _read(session, opened, spec, infos)
            stack.callback(read.unpersist)
            reports = _reports(read)
            for rows, double in _sorted(read, spec, refused_among(reports)):
                if double:
                    duplicates.add(rows)
                else:
                    records.write(rows.select(spec.frame_columns))
            yield Gathered.of(reports, duplicates, records)


def _passed_schema(spec: CohortSpec) -> pa.Schema:
    """Return the schema of rows between the two steps; a report travels as a row of its own."""
    first = [(UPLOAD, pa.int32()), (LINE, pa.int64()), (_REPORT, pa.string())]
    return pa.schema([*(pa.field(*f) for f in first), *stored_schema(spec)])


def _read(
    session: SparkSession,
    opened: Callable[[], SiteStore],
    spec: CohortSpec,
    infos: Sequence[ObjectInfo],
) -> DataFrame:
    """Read and check every upload; kept, since rows must wait until their file was read whole."""
    schema = _passed_schema(spec)

    def read(batches: Batches) -> Batches:
        store = opened()
        erased = ErasedRows(store, spec)
        for number in (number for batch in batches for number in batch["id"].to_pylist()):
            upload = UploadRows(store, spec, infos[number], number, erased)
            for rows in upload:
                passed = rows.append_column(_REPORT, pa.nulls(len(rows), pa.string()))
                yield from passed.select(schema.names).cast(schema).to_batches()
            text = upload.report.model_dump_json()
            yield pa.RecordBatch.from_pylist([{UPLOAD: number, _REPORT: text}], schema)

    numbers = session.range(len(infos), numPartitions=max(len(infos), 1))
    found = numbers.mapInArrow(read, from_arrow_schema(schema))
    return found.persist(StorageLevel.DISK_ONLY)


def _reports(read: DataFrame) -> list[Upload]:
    rows = read.filter(col(_REPORT).isNotNull()).select(UPLOAD, _REPORT).collect()
    return [Upload.model_validate_json(report) for _, report in sorted(map(tuple, rows))]


def _sorted(
    read: DataFrame, spec: CohortSpec, refused: Sequence[int]
) -> Iterator[tuple[pa.Table, bool]]:
    """Yield rows by id, and whether they are duplicates or the latest of their ids."""
    key = spec.key_column

    def finish(batches: Batches) -> Batches:
        with SortedRuns(key) as runs:
            for batch in batches:
                runs.add(pa.Table.from_batches([batch]))
            for rows in runs.merge():
                double, others = told_apart(rows, key)
                yield _packed(double, double=True)
                yield _packed(latest(others, key), double=False)

    fit = read.filter(col(_REPORT).isNull() & ~col(UPLOAD).isin(list(refused))).drop(_REPORT)
    # No id is in two ranges.
    ranges = fit.repartitionByRange(key).sortWithinPartitions(key, UPLOAD, LINE)
    packed = ranges.mapInArrow(finish, from_arrow_schema(_PACKED))
    for row in packed.toLocalIterator(prefetchPartitions=True):
        with pa.ipc.open_stream(bytes(row[_ROWS])) as reader:
            yield reader.read_all(), row[_DOUBLE]


def _packed(rows: pa.Table, *, double: bool) -> pa.RecordBatch:
    """Return rows as one value, so that they come to the driver as they are, not one by one."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    return pa.RecordBatch.from_pylist(
        [{_DOUBLE: double, _ROWS: sink.getvalue().to_pybytes()}], _PACKED
    )

"""Gathering uploads on a Spark cluster: more rows than one machine takes.

The rows of an upload are read and checked by one task, and the ids are sorted by as many as Spark
has partitions. Every step is made of the functions that
:func:`fl_assets.site.gathering.gather` calls, so the outcome is the same to the byte.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql.functions import col
from pyspark.sql.pandas.types import from_arrow_schema
from pyspark.storagelevel import StorageLevel

from fl_assets.cohorts.reader import LINE
from fl_assets.cohorts.spec import CohortSpec
from fl_assets.errors import FlAssetsError
from fl_assets.site.duplicates import Duplicates, latest, told_apart
from fl_assets.site.erased_rows import ErasedRows
from fl_assets.site.gathering import Gathered, refused_among
from fl_assets.site.rows import RowWriter
from fl_assets.site.runs import merged
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

# In the text of an error that comes from an executor: one of ours, or the class of one of Spark's.
_REASON = re.compile(r"^fl_assets\.[\w.]+: .+|\[[A-Z][A-Z_.]+\]", re.MULTILINE)


class JavaMissingError(FlAssetsError):
    """Spark is installed and Java is not, or one that Spark does not know."""

    def __init__(self) -> None:
        super().__init__(
            "Spark finds no Java that it can run: install Java 8, 11 or 17, and let JAVA_HOME name "
            "its folder"
        )


class SparkFailedError(FlAssetsError):
    """Spark gave the intake up; the records stay as they are."""

    def __init__(self, uri: str, reason: str) -> None:
        super().__init__(
            f"Spark gave up the intake of {uri} ({reason}): see the executors' log, then "
            "materialise the records again"
        )


class TaskFailedError(FlAssetsError):
    """A task on an executor failed in a way nobody foresaw; raised and logged there."""


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
        """Gather uploads on the session that is there, or on one as Spark's configuration says.

        Raises:
            JavaMissingError, SparkFailedError: without the text of Spark's own error, which may
                quote a row.
        """
        opened = partial(open_store, store.uri, self.access)
        with _explained(store.uri), ExitStack() as stack:
            session = stack.enter_context(_session())
            duplicates = stack.enter_context(Duplicates(store, spec, infos))
            records = stack.enter_context(RowWriter(store, stored_schema(spec)))
            read = _read(session, opened, spec, infos)
            stack.callback(read.unpersist, blocking=True)
            reports = _reports(read)
            for rows, double in _sorted(read, spec, refused_among(reports)):
                if double:
                    duplicates.add(rows)
                else:
                    records.write(rows.select(spec.frame_columns))
            yield Gathered.of(reports, duplicates, records)


@contextmanager
def _session() -> Iterator[SparkSession]:
    there = SparkSession.getActiveSession()
    if there is not None:
        yield there
        return
    # Executors that are killed leave files behind, of which nothing can be read without the key.
    builder = SparkSession.builder.config("spark.io.encryption.enabled", "true")
    session = builder.appName("fl-assets-intake").getOrCreate()
    try:
        yield session
    finally:
        session.stop()


@contextmanager
def _explained(uri: str) -> Iterator[None]:
    """Turn Spark's errors into ours."""
    try:
        yield
    except (PySparkException, Py4JError) as error:
        reason = _REASON.search(str(error))
        if reason and reason[0] == "[JAVA_GATEWAY_EXITED]":
            raise JavaMissingError from None
        raise SparkFailedError(uri, reason[0] if reason else type(error).__name__) from None


@contextmanager
def _on_executor() -> Iterator[None]:
    """Keep the text of unforeseen errors out of Spark's logs, for it may hold a value."""
    try:
        yield
    except FlAssetsError:
        raise
    except Exception as error:
        where = "".join(traceback.format_tb(error.__traceback__))
        raise TaskFailedError(f"unforeseen {type(error).__name__}\n{where}") from None


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
        with _on_executor():
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
        with _on_executor():
            # Batches end anywhere; these pieces end where an id does.
            for pieces in merged([(pa.Table.from_batches([batch]) for batch in batches)], key):
                double, others = told_apart(pa.concat_tables(pieces), key)
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

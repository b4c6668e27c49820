"""The one place that writes and opens Parquet files with patient rows."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fl_assets.errors import BadDataError
from fl_assets.storage import ObjectExistsError, ObjectNotFoundError, SiteStore

SITE_KEY = "keys/site.key"
ROW_GROUP = 65_536
"""Rows that are written, hashed and read at once."""

LOCK = "rows"
"""Lock of a hospital's store, held by whatever rewrites rows or says which are current.

Two intakes, partitionings, erasures or deletions side by side could each publish what the other
replaced.
"""

_PEPPER = b"fl_assets.pepper"


class DamagedRowsError(BadDataError):
    """A stored file is not the one that was written."""

    def __init__(self, uri: str, key: str) -> None:
        super().__init__(
            f"{key!r} in {uri} is not the file that was stored there: materialise the asset that "
            "writes it again"
        )


def site_key(store: SiteStore) -> bytes:
    """Return the hospital's own secret of 32 bytes, made when it is first asked for.

    Names and hashes that leave the hospital are keyed by it, so that nobody else can test a
    guessed row against them.
    """
    try:
        return store.get(SITE_KEY)
    except ObjectNotFoundError:
        with suppress(ObjectExistsError):
            store.put_if_absent(SITE_KEY, secrets.token_bytes(32))
        return store.get(SITE_KEY)


def keyed_version(store: SiteStore, content: bytes) -> str:
    """Return a version of 16 hex digits of content: HMAC-SHA-256 (RFC 2104) with the site key."""
    return hmac.new(site_key(store), content, hashlib.sha256).hexdigest()[:16]


def content_hash(frame: pd.DataFrame) -> str:
    """Return a 16-digit hash of a frame's columns, types and rows in their order.

    It stays the same when the Parquet library changes how it lays out a file. It has no key: for
    rows that are public anyway.
    """
    table = table_of(frame)
    digest = hashlib.sha256(_types(table.schema))
    for start in range(0, len(table), ROW_GROUP):
        _add(digest, table.slice(start, ROW_GROUP))
    return digest.hexdigest()[:16]


def table_of(frame: pd.DataFrame) -> pa.Table:
    """Return a frame's rows without its index; what pandas notes beside them is left out."""
    return pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)


class RowWriter:
    """Writes rows as Parquet in bounded memory, then stores the file.

    The bytes depend on the rows, their order and the site key, not on the tables in which they
    come. The file holds a keyed pepper, so that its hash cannot be tested against guessed rows.

    While one row group is hashed and encoded in threads, the next is put together. Until
    :meth:`store` the file is a temporary one, in a folder that only its owner can open; up to a
    row group there is none.
    """

    def __init__(self, store: SiteStore, schema: pa.Schema) -> None:
        self._store, self._schema = store, schema.remove_metadata()
        self._digest = hashlib.sha256(_types(self._schema))
        self._waiting: list[pa.Table] = []
        self._encoding: list[Future[None]] = []
        self._stack = ExitStack()
        self.rows = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def write(self, rows: pa.Table) -> None:
        """Append rows; what is dictionary-coded is spelt out."""
        self._waiting.append(rows.cast(self._schema))
        self.rows += len(rows)
        while sum(map(len, self._waiting)) >= ROW_GROUP:
            waiting = pa.concat_tables(self._waiting)
            self._waiting = [waiting.slice(ROW_GROUP)]
            self._encode(waiting.slice(0, ROW_GROUP))

    def finish(self) -> bytes:
        """End the file; return the SHA-256 of its content: columns, types, rows in order."""
        if self._writer.is_open:
            self._encode(pa.concat_tables([self._schema.empty_table(), *self._waiting]))
            self._wait()
            pepper = hmac.new(site_key(self._store), self._digest.digest(), hashlib.sha256)
            self._writer.add_key_value_metadata({_PEPPER: pepper.hexdigest()})
            self._writer.close()
        return self._digest.digest()

    def store(self, key: str) -> str:
        """End the file and store it under ``key``; return the SHA-256 of the file."""
        self.finish()
        with self._path.open("rb") as stream:
            sha256 = _sha256(stream)
        self._store.put_file(key, self._path)
        return sha256

    @cached_property
    def _path(self) -> Path:
        folder = self._stack.enter_context(TemporaryDirectory(prefix="fla-rows-"))
        return Path(folder) / "rows.parquet"

    @cached_property
    def _writer(self) -> pq.ParquetWriter:
        writer = pq.ParquetWriter(
            self._path,
            self._schema,
            compression="zstd",
            # The first column names the row: a dictionary would be as long as the column.
            use_dictionary=self._schema.names[1:],
            # Smallest and largest values, which nobody asks for.
            write_statistics=False,
        )
        return self._stack.enter_context(writer)

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return self._stack.enter_context(ThreadPoolExecutor(2))

    def _encode(self, group: pa.Table) -> None:
        self._wait()
        if len(group):
            group = group.combine_chunks()
            self._encoding = [
                self._threads.submit(_add, self._digest, group),
                self._threads.submit(self._writer.write_table, group, ROW_GROUP),
            ]

    def _wait(self) -> None:
        while self._encoding:
            self._encoding.pop().result()


def write_rows(store: SiteStore, key: str, frame: pd.DataFrame) -> str:
    """Store a frame's rows as Parquet under ``key``; return the SHA-256 of the file."""
    table = table_of(frame)
    with RowWriter(store, table.schema) as writer:
        writer.write(table)
        return writer.store(key)


def read_batches(
    store: SiteStore, key: str, sha256: str | None = None, columns: Sequence[str] | None = None
) -> Iterator[pa.Table]:
    """Yield the Parquet rows under ``key``, a row group at a time.

    Args:
        store: where they are.
        key: of the file.
        sha256: of the file, where a manifest names it; of another file no row is read.
        columns: to read; all of them if None.

    Raises:
        ObjectNotFoundError: there are none.
        DamagedRowsError: another file, or no Parquet.
    """
    with store.open(key) as stream:
        if sha256 not in (None, _sha256(stream)):
            raise DamagedRowsError(store.uri, key)
        stream.seek(0)
        try:
            file = pq.ParquetFile(stream)
            if not file.num_row_groups:
                yield file.schema_arrow.empty_table()
            else:
                read = partial(file.read_row_group, columns=columns)
                yield from _one_ahead(read, file.num_row_groups)
        except (pa.ArrowException, OSError):
            # Without its cause, whose text may quote the file.
            raise DamagedRowsError(store.uri, key) from None


def _one_ahead(read: Callable[[int], pa.Table], count: int) -> Iterator[pa.Table]:
    """Read each of at least one group while the caller works on the one before it."""
    with ThreadPoolExecutor(1) as thread:
        reading = thread.submit(read, 0)
        for group in range(1, count):
            following = thread.submit(read, group)
            yield reading.result()
            reading = following
        yield reading.result()


def read_rows(store: SiteStore, key: str, sha256: str | None = None) -> pd.DataFrame:
    """Read all Parquet rows under ``key``; see :func:`read_batches`."""
    frame: pd.DataFrame = pa.concat_tables(read_batches(store, key, sha256)).to_pandas()
    return frame


def _sha256(stream: BinaryIO) -> str:
    digest = hashlib.sha256()
    while block := stream.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def _types(schema: pa.Schema) -> bytes:
    return repr([(field.name, str(field.type)) for field in schema]).encode()


def _add(digest: hashlib._Hash, table: pa.Table) -> None:
    """Add the values of at most a row group, column by column, in one representation.

    Which values are there, then numbers as they lie in memory, or the lengths of texts and all
    texts in a row.
    """
    for column in table.columns:
        values = column.combine_chunks()
        digest.update(np.packbits(values.is_valid().to_numpy(zero_copy_only=False)).tobytes())
        if pa.types.is_null(values.type):
            continue
        if pa.types.is_string(values.type):
            filled = values.fill_null("")
            digest.update(pc.binary_length(filled).to_numpy())
            digest.update(_text(filled))
        else:
            digest.update(values.fill_null(0).to_numpy(zero_copy_only=False))


def _text(values: pa.StringArray) -> memoryview:
    """Return all texts in a row, UTF-8; ``values`` holds no null."""
    _, offsets, data = values.buffers()
    ends = np.frombuffer(offsets, np.int32)[values.offset : values.offset + len(values) + 1]
    return memoryview(data or b"")[ends[0] : ends[-1]] if len(ends) else memoryview(b"")

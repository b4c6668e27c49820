"""The one place that writes and opens Parquet files with patient rows."""

from __future__ import annotations

import hashlib
import io

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from fl_assets.storage import SiteStore


def content_hash(frame: pd.DataFrame) -> str:
    """Return a 16-digit hash of a frame's columns, types and rows in their order.

    It stays the same when the Parquet library changes how it lays out a file.
    """
    digest = hashlib.sha256(repr(list(frame.dtypes.astype(str).items())).encode())
    digest.update(pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes())
    return digest.hexdigest()[:16]


def write_rows(store: SiteStore, key: str, frame: pd.DataFrame) -> str:
    """Store rows as Parquet under ``key``; return the SHA-256 of the file."""
    buffer = io.BytesIO()
    table = pa.Table.from_pandas(frame, preserve_index=False)
    pq.write_table(table, buffer, compression="zstd")
    data = buffer.getvalue()
    store.put(key, data)
    return hashlib.sha256(data).hexdigest()


def read_rows(store: SiteStore, key: str) -> pd.DataFrame:
    """Read the Parquet rows under ``key``.

    Raises:
        ObjectNotFoundError: there are none.
    """
    with store.open(key) as stream:
        frame: pd.DataFrame = pq.read_table(pa.PythonFile(stream)).to_pandas()
    return frame


def file_hash(store: SiteStore, key: str) -> str:
    """Return the SHA-256 of the stored file, computed anew."""
    with store.open(key) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

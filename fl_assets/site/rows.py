"""The one place that writes and opens Parquet files with patient rows."""

from __future__ import annotations

import hashlib
import io

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from fl_assets.errors import BadDataError
from fl_assets.storage import SiteStore


class DamagedRowsError(BadDataError):
    """A stored file is not the one that was written."""

    def __init__(self, uri: str, key: str) -> None:
        super().__init__(
            f"{key!r} in {uri} is not the file that was stored there: materialise the asset that "
            "writes it again"
        )


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


def read_rows(store: SiteStore, key: str, sha256: str | None = None) -> pd.DataFrame:
    """Read the Parquet rows under ``key``.

    Args:
        store: where they are.
        key: of the file.
        sha256: of the file, where a manifest names it; another file is refused.

    Raises:
        ObjectNotFoundError: there are none.
        DamagedRowsError: another file, or no Parquet.
    """
    data = store.get(key)
    if sha256 is not None and sha256 != hashlib.sha256(data).hexdigest():
        raise DamagedRowsError(store.uri, key)
    try:
        frame: pd.DataFrame = pq.read_table(pa.BufferReader(data)).to_pandas()
    except (pa.ArrowException, OSError):
        # Without its cause, whose text may quote the file.
        raise DamagedRowsError(store.uri, key) from None
    return frame

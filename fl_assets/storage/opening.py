"""Opening a site store by its URI."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from fl_assets.storage.access import ANYBODY, Access
from fl_assets.storage.base import SiteStore, StorageError
from fl_assets.storage.folder import FolderStore
from fl_assets.storage.s3 import S3Store


class BadStoreUriError(StorageError):
    """The URI names no store."""

    def __init__(self, uri: str) -> None:
        super().__init__(
            f"{uri!r} names no store: use file:///absolute/folder or s3://bucket/prefix"
        )


def open_store(uri: str, access: Access = ANYBODY) -> SiteStore:
    """Open the folder (percent-encoded ``file:///...``) or the bucket (``s3://bucket/prefix``).

    Args:
        uri: of the store.
        access: as whom to open a bucket; a folder takes no notice of it.

    Raises:
        BadStoreUriError: ``uri`` is neither.
    """
    scheme, _, rest = uri.partition("://")
    if scheme == "s3":
        # Not urlsplit: in a key ``?`` and ``#`` are letters like any other.
        bucket, _, prefix = rest.partition("/")
        if bucket:
            return S3Store(bucket, prefix.rstrip("/"), access)
    elif scheme == "file":
        parts = urlsplit(uri)
        if parts.netloc in {"", "localhost"} and parts.path.strip("/"):
            return FolderStore(Path(unquote(parts.path)))
    raise BadStoreUriError(uri)

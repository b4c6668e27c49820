"""Site buckets: one interface, a folder and S3 behind it."""

from fl_assets.storage.access import Access
from fl_assets.storage.base import (
    ObjectExistsError,
    ObjectInfo,
    ObjectNotFoundError,
    SiteStore,
    StorageError,
)
from fl_assets.storage.folder import FolderStore
from fl_assets.storage.opening import open_store

__all__ = [
    "Access",
    "FolderStore",
    "ObjectExistsError",
    "ObjectInfo",
    "ObjectNotFoundError",
    "SiteStore",
    "StorageError",
    "open_store",
]

"""The interface of a site bucket."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from fl_assets.errors import FlAssetsError

if TYPE_CHECKING:
    from fl_assets.storage.locks import Held


class StorageError(FlAssetsError):
    """The bucket cannot be used as asked."""


class ObjectNotFoundError(StorageError):
    """No object (or no such version of it) under this key."""

    def __init__(self, uri: str, key: str, version: str | None = None) -> None:
        wanted = f"{key!r}" if version is None else f"version {version!r} of {key!r}"
        super().__init__(f"{uri} holds no {wanted}; materialise the asset that writes it first")
        self.key = key


class ObjectExistsError(StorageError):
    """A conditional put found the key taken."""

    def __init__(self, uri: str, key: str) -> None:
        super().__init__(f"{uri} already holds {key!r}; it was left as it is")
        self.key = key


class BadKeyError(StorageError):
    """A key that could leave the bucket or that S3 would spell differently."""

    def __init__(self, key: str) -> None:
        super().__init__(
            f"{key!r} is no object key: use relative names joined by '/', without '.', '..', "
            "an empty part, a part that starts with '.', a backslash or a control character"
        )


class AccessDeniedError(StorageError):
    """The bucket's owner does not let this identity do that."""


@dataclass(frozen=True)
class ObjectInfo:
    """One stored version of an object.

    Attributes:
        key: name inside the bucket, ``/`` between its parts.
        size: bytes.
        version: opaque; two puts to one key always differ in it, also with equal content.
        modified: time of the put, timezone-aware UTC.
    """

    key: str
    size: int
    version: str
    modified: datetime


class SiteStore(Protocol):
    """A bucket of one hospital (or the coordinator's own), opened with its owner's rights.

    Every write is all-or-nothing: a reader sees the old object or the new one. Keys are checked
    (:class:`BadKeyError`). Implementations pass the same contract test.
    """

    @property
    def uri(self) -> str:
        """``file:///...`` or ``s3://bucket/prefix``; what :func:`open_store` opens again."""

    def put(self, key: str, data: bytes) -> ObjectInfo:
        """Store ``data`` as the newest version of ``key``."""

    def put_if_absent(self, key: str, data: bytes) -> ObjectInfo:
        """Store ``data`` unless ``key`` is taken; of racing callers exactly one succeeds.

        Raises:
            ObjectExistsError: the key is taken.
        """

    def put_file(
        self, key: str, path: Path, progress: Callable[[int], None] | None = None
    ) -> ObjectInfo:
        """Store a file as the newest version of ``key``, without holding it in memory.

        A transfer that broke off goes on where it was when it is called again with the same file.

        Args:
            key: of the object.
            path: of the file.
            progress: called with the bytes that are there so far, counting those of earlier calls.
        """

    def get(self, key: str, version: str | None = None) -> bytes:
        """Return the newest version of ``key``, or the one asked for.

        Raises:
            ObjectNotFoundError: there is none.
        """

    def open(self, key: str, version: str | None = None) -> BinaryIO:
        """Like :meth:`get`, as a seekable stream for objects too large to hold twice."""

    def exists(self, key: str) -> bool:
        """Tell whether ``key`` has a current version."""

    def versions(self, key: str) -> list[ObjectInfo]:
        """Return every kept version of ``key``, newest first; empty where there is none."""

    def history(self, prefix: str = "") -> list[ObjectInfo]:
        """Return every kept version of every key that starts with ``prefix``, deleted ones too.

        They come by key, and of each key the newest first.
        """

    def list(self, prefix: str = "") -> list[ObjectInfo]:
        """Return the current version of every key that starts with ``prefix``, by key."""

    def delete(self, key: str) -> None:
        """Remove ``key`` from listings; older versions stay readable by version.

        Raises:
            ObjectNotFoundError: there is none.
        """

    def purge(self, key: str, versions: Collection[str] | None = None) -> int:
        """Remove versions of ``key`` for good; return how many were removed.

        What unfinished puts have left of the key goes as well. Where the current version is removed
        and others stay, the newest of them is current then.

        Args:
            key: of the object.
            versions: that are removed, as far as they are there; all if None.
        """

    def discard_unfinished(self) -> int:
        """Remove what unfinished puts of any key have left; return how many there were."""

    def lock(self, name: str, wait: float | None = None) -> AbstractContextManager[Held]:
        """Hold a lock alone among all threads and processes that ask for it by its name.

        Inside the block the same thread may take it again. It frees itself when its process dies.

        Args:
            name: of the lock, a well-formed key.
            wait: seconds to wait for it; :data:`fl_assets.storage.locks.WAIT` if None.

        Raises:
            LockHeldError: it did not become free in time; says who holds it since when.
        """


def is_key(key: str) -> bool:
    """Tell whether ``key`` is well formed; a listing leaves out whatever is not."""
    parts = key.split("/")
    return key.isprintable() and "\\" not in key and not any(p[:1] in {"", "."} for p in parts)


def check_key(key: str) -> str:
    """Return ``key`` if it is well formed.

    Raises:
        BadKeyError: it is not.
    """
    if not is_key(key):
        raise BadKeyError(key)
    return key

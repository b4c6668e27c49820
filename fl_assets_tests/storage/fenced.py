"""The coordinator's rights on a hospital's store, on the embedded default's folders."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO, NoReturn

from fl_assets.settings import Settings
from fl_assets.storage import ObjectInfo, SiteStore
from fl_assets.storage.base import AccessDeniedError
from fl_assets.storage.policies import MANIFESTS


class FencedStore:
    """A store as :func:`fl_assets.storage.policies.coordinator_policy` opens it."""

    def __init__(self, store: SiteStore) -> None:
        self._store = store

    @property
    def uri(self) -> str:
        return self._store.uri

    def get(self, key: str, version: str | None = None) -> bytes:
        with self.open(key, version) as stream:
            return stream.read()

    def open(self, key: str, version: str | None = None) -> BinaryIO:
        if version is not None or not _matches(key, MANIFESTS):
            self._deny(f"get {key}")
        return self._store.open(key)

    def exists(self, key: str) -> bool:
        if not _matches(key, MANIFESTS):
            self._deny(f"get {key}")
        return self._store.exists(key)

    def list(self, prefix: str = "") -> list[ObjectInfo]:
        self._check_listing(prefix)
        return self._store.list(prefix)

    def history(self, prefix: str = "") -> list[ObjectInfo]:
        self._check_listing(prefix)
        return self._store.history(prefix)

    def versions(self, key: str) -> list[ObjectInfo]:
        self._check_listing(key)
        return self._store.versions(key)

    def put(self, key: str, data: bytes) -> ObjectInfo:
        self._deny(f"put {key}")

    def put_if_absent(self, key: str, data: bytes) -> ObjectInfo:
        self._deny(f"put {key}")

    def put_file(
        self, key: str, path: Path, progress: Callable[[int], None] | None = None
    ) -> ObjectInfo:
        self._deny(f"put {key}")

    def delete(self, key: str) -> None:
        self._deny(f"delete {key}")

    def purge(self, key: str, versions: Collection[str] | None = None) -> int:
        self._deny(f"purge {key}")

    def discard_unfinished(self) -> int:
        self._deny("discard what is unfinished")

    def lock(self, name: str, wait: float | None = None) -> NoReturn:
        self._deny(f"take lock {name}")

    def _check_listing(self, prefix: str) -> None:
        if not _matches(prefix, ("incoming/*", *MANIFESTS)):
            self._deny(f"list {prefix!r}")

    def _deny(self, what: str) -> NoReturn:
        raise AccessDeniedError(f"{self.uri}: the coordinator may not {what}")


def _matches(key: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(key, pattern) for pattern in patterns)


@dataclass(frozen=True)
class FencedSettings(Settings):
    """Settings of a process that has the coordinator's identity and no hospital's."""

    def site_store(self, hospital: str) -> SiteStore:
        raise AccessDeniedError(f"the coordinator may not take the role of {hospital}")

    def listing_store(self, hospital: str) -> SiteStore:
        return FencedStore(super().listing_store(hospital))


def fenced(settings: Settings) -> FencedSettings:
    """Return the same settings for the coordinator's identity."""
    return FencedSettings(**{f: getattr(settings, f) for f in Settings.__dataclass_fields__})

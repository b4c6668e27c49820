"""A site bucket in a folder."""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from stat import S_ISDIR
from typing import BinaryIO

from fl_assets.storage import locks
from fl_assets.storage.base import (
    AccessDeniedError,
    ObjectExistsError,
    ObjectInfo,
    ObjectNotFoundError,
    StorageError,
    check_key,
    is_key,
)
from fl_assets.storage.disk import has_symlink, make_folder, sync, walk
from fl_assets.storage.file_lock import flocked
from fl_assets.storage.locks import Held
from fl_assets.storage.source import reading
from fl_assets.storage.staging import complete, open_alone, staged_copy

# All hidden, so that they are no keys.
VERSIONS = ".versions"
STAGING = ".tmp"
LOCKS = ".locks"


class StorageFullError(StorageError):
    """The disk, a quota or a file-size limit stopped a write; the old object is still there."""


class KeyClashError(StorageError):
    """On a disk no key can be the folder of another key, nor be longer than a file name."""


class SymlinkRefusedError(StorageError):
    """A symbolic link inside the store could show files that are not the store's to share."""


class FolderStore:
    """A folder as a bucket (:class:`fl_assets.storage.base.SiteStore`).

    An object is a plain file and its version is made of the file's modification time in ns and
    its size, so a file that a hospital drops in by hand is an object like any other. A version
    that a put supersedes or a delete removes is kept by a hard link under
    ``.versions/<key>/<version>``: a key that is written once costs one file, and history never
    costs disk twice. What people change by hand leaves no history.

    A write goes to a temporary file under ``.tmp/`` and is then renamed or linked: readers, which
    take no lock, see the old object or the new one. Only a writer that broke off leaves its
    temporary file behind, unseen; that of :meth:`put_file` is used by its next call. Folders are
    created 0700 and files 0600, for they hold patients' data.

    Every write survives a crash of the process. :meth:`put_if_absent` also survives a power cut
    once it has returned, for it commits log entries: no privacy budget that a ledger reserved may
    come back. It fsyncs file and folder, at 0.7 ms on an idle virtual SSD and 8 ms on a busy one.
    :meth:`put` does not wait for the disk: what it stores can be made again, and readers check it
    against the hashes in a manifest.

    Args:
        path: the folder; the first write creates it.

    Raises:
        StorageError: ``path`` is a file.
    """

    def __init__(self, path: Path) -> None:
        self._root = Path(os.path.realpath(path))
        if self._root.exists() and not self._root.is_dir():
            raise StorageError(f"{self._root} is a file; a folder store needs a folder")

    def __repr__(self) -> str:
        return f"FolderStore({str(self._root)!r})"

    @property
    def uri(self) -> str:
        """``file:///...``, percent-encoded."""
        return self._root.as_uri()

    def put(self, key: str, data: bytes) -> ObjectInfo:
        """Store ``data`` as the newest version of ``key``."""
        with self._writing(key, data) as (staged, target):
            return self._replace(key, staged, target)

    def put_if_absent(self, key: str, data: bytes) -> ObjectInfo:
        """Store ``data`` unless ``key`` is taken; of racing callers exactly one succeeds.

        Raises:
            ObjectExistsError: the key is taken.
        """
        with self._writing(key, data) as (staged, target):
            if target.exists():
                # Before it waits for the disk: of many that race all but one end here.
                raise ObjectExistsError(self.uri, key)
            sync(staged)
            try:
                # Unlike a rename this also yields to a file dropped in by hand, without the lock.
                os.link(staged, target)
            except FileExistsError:
                raise ObjectExistsError(self.uri, key) from None
            sync(target.parent)
            return _info(key, staged.stat())

    def put_file(
        self, key: str, path: Path, progress: Callable[[int], None] | None = None
    ) -> ObjectInfo:
        """Store a copy of a file as the newest version of ``key``.

        Raises:
            UnreadableFileError, FileChangedError: of the file.
        """
        target, tell = self._path(key), progress or (lambda _: None)
        with reading(path) as source, self._explained(key):
            make_folder(self._root / STAGING)
            staged = staged_copy(self._root / STAGING, key)
            with open_alone(staged) as descriptor:
                complete(descriptor, source, tell)
                source.check_unchanged()
                os.utime(staged)
                with self._locked():
                    self._prepare(key, staged, target)
                    return self._replace(key, staged, target)

    def get(self, key: str, version: str | None = None) -> bytes:
        """Return the newest version of ``key``, or the one asked for.

        Raises:
            ObjectNotFoundError: there is none.
        """
        with self.open(key, version) as stream:
            return stream.read()

    def open(self, key: str, version: str | None = None) -> BinaryIO:
        """Like :meth:`get`, as a seekable stream that no later put disturbs."""
        paths = [self._path(key)]
        if version is not None:
            # Looked at last: a put keeps the old version before it replaces the current one.
            paths.append(self._kept(key) / version)
        with self._explained(key):
            for path in paths:
                with suppress(FileNotFoundError):
                    if path.is_file():
                        stream = path.open("rb")
                        if version in (None, _version(os.fstat(stream.fileno()))):
                            return stream
                        stream.close()
        raise ObjectNotFoundError(self.uri, key, version)

    def exists(self, key: str) -> bool:
        """Tell whether ``key`` has a current version."""
        with self._explained(key):
            return self._path(key).is_file()

    def versions(self, key: str) -> list[ObjectInfo]:
        """Return every kept version of ``key``, newest first; empty where there is none."""
        current = self._path(key)
        found = {}
        with self._explained(key):
            for path in (current, *self._kept_files(key)):
                if path.is_file():
                    info = _info(key, path.stat())
                    # An edit in place shows through the hard link: no longer the version kept.
                    if path == current or path.name == info.version:
                        found[info.version] = info
        return sorted(found.values(), key=lambda info: _age(info.version), reverse=True)

    def history(self, prefix: str = "") -> list[ObjectInfo]:
        """Return every kept version of every key that starts with ``prefix``, deleted ones too."""
        folder, kept = prefix.rpartition("/")[0], self._root / VERSIONS
        keys = {info.key for info in self.list(prefix)}
        if not folder or is_key(folder):
            with self._explained(prefix):
                for path, _ in walk(str(kept / folder)):
                    keys.add(path[len(str(kept)) + 1 :].rpartition("/")[0])
        wanted = sorted(key for key in keys if key.startswith(prefix) and is_key(key))
        return [info for key in wanted for info in self.versions(key)]

    def list(self, prefix: str = "") -> list[ObjectInfo]:
        """Return the current version of every key that starts with ``prefix``, by key."""
        folder = prefix.rpartition("/")[0]
        start = self._root / folder
        if folder and (not is_key(folder) or has_symlink(start)):
            return []
        skip = len(str(self._root)) + 1
        with self._explained(prefix):
            found = [_info(path[skip:], stat) for path, stat in walk(str(start))]
        wanted = (info for info in found if info.key.startswith(prefix) and is_key(info.key))
        return sorted(wanted, key=lambda info: info.key)

    def delete(self, key: str) -> None:
        """Remove ``key`` from listings; older versions stay readable by version.

        Raises:
            ObjectNotFoundError: there is none.
        """
        path = self._path(key)
        if not self.exists(key):
            raise ObjectNotFoundError(self.uri, key)
        with self._explained(key), self._locked():
            self._keep(key, path)
            path.unlink()

    def purge(self, key: str, versions: Collection[str] | None = None) -> int:
        """Remove versions of ``key`` for good, and what an unfinished put left of it.

        Args:
            key: of the object.
            versions: that are removed, as far as they are there; all if None.
        """
        path = self._path(key)
        if not self._root.exists():
            return 0
        with self._explained(key), self._locked():
            present, known = path.is_file(), [info.version for info in self.versions(key)]
            left = [v for v in known if versions is not None and v not in versions]
            if present and _version(path.stat()) not in left:
                path.unlink()
            # A file that was edited in place is no version any more, and goes as well.
            for kept in self._kept_files(key):
                if kept.name not in left:
                    kept.unlink(missing_ok=True)
            staged_copy(self._root / STAGING, key).unlink(missing_ok=True)
            if present and left and not path.exists():
                (self._kept(key) / left[0]).replace(path)
            with suppress(OSError):
                # It is not there, or holds other versions, or those of longer keys.
                self._kept(key).rmdir()
        return len(known) - len(left)

    def discard_unfinished(self) -> int:
        """Remove what unfinished puts of any key have left; return how many there were.

        A put that is under way fails and leaves the old object.
        """
        staging = self._root / STAGING
        with self._explained(STAGING):
            left = list(staging.iterdir()) if staging.exists() else []
            for path in left:
                path.unlink(missing_ok=True)
        return len(left)

    @contextmanager
    def lock(self, name: str, wait: float | None = None) -> Iterator[Held]:
        """Hold a lock (:meth:`fl_assets.storage.base.SiteStore.lock`).

        Raises:
            LockHeldError: it did not become free in time.
        """
        path = self._root / LOCKS / check_key(name)
        seconds = locks.WAIT if wait is None else wait
        with locks.unless_held(self.uri, name, lambda: self._flocked(path, name, seconds)) as held:
            yield held

    @contextmanager
    def _flocked(self, path: Path, name: str, wait: float) -> Iterator[Held]:
        with ExitStack() as stack:
            with self._explained(name):
                held = stack.enter_context(flocked(path, self.uri, name, wait))
            yield held

    def _path(self, key: str) -> Path:
        path = self._root / check_key(key)
        if has_symlink(path):
            raise SymlinkRefusedError(
                f"{self.uri} reaches {key!r} through a symbolic link; put the file itself there"
            )
        return path

    def _kept(self, key: str) -> Path:
        return self._root / VERSIONS / key

    @contextmanager
    def _writing(self, key: str, data: bytes) -> Iterator[tuple[Path, Path]]:
        """Yield a finished temporary file and its target, with the store locked."""
        target = self._path(key)
        with self._explained(key), self._staged(data) as staged, self._locked():
            self._prepare(key, staged, target)
            yield staged, target

    def _prepare(self, key: str, staged: Path, target: Path) -> None:
        make_folder(target.parent)
        self._make_newest(staged, key, target)

    def _replace(self, key: str, staged: Path, target: Path) -> ObjectInfo:
        self._keep(key, target)
        stat = staged.stat()
        staged.replace(target)
        return _info(key, stat)

    @contextmanager
    def _staged(self, data: bytes) -> Iterator[Path]:
        make_folder(self._root / STAGING)
        descriptor, name = tempfile.mkstemp(dir=self._root / STAGING)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(data)
            yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Let one writer at a time, of all processes, change names; it frees itself on a crash."""
        descriptor = os.open(self._root / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _make_newest(self, staged: Path, key: str, target: Path) -> None:
        """Date the file after all versions: clocks tick too coarsely, and may be set back."""
        newest = max((_age(path.name) for path in self._kept_files(key)), default=0)
        with suppress(FileNotFoundError):
            current = target.stat()
            if S_ISDIR(current.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            newest = max(newest, current.st_mtime_ns)
        if staged.stat().st_mtime_ns <= newest:
            os.utime(staged, ns=(newest + 1, newest + 1))

    def _keep(self, key: str, current: Path) -> None:
        """Link the current version, if there is one, into the history."""
        if current.exists():
            folder = self._kept(key)
            make_folder(folder)
            with suppress(FileExistsError):
                os.link(current, folder / _version(current.stat()))

    def _kept_files(self, key: str) -> Iterator[Path]:
        with suppress(FileNotFoundError), os.scandir(self._kept(key)) as entries:
            # A folder in there belongs to a longer key, a hidden file to a file manager.
            kept = (e for e in entries if e.is_file() and not e.name.startswith("."))
            yield from (Path(entry.path) for entry in kept)

    @contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        """Turn an error of the operating system into one with a cause and a cure."""
        try:
            yield
        except OSError as error:
            what = f"{self.uri}, {key!r}: {error.strerror}"
            match error.errno:
                case errno.ENOENT:
                    raise ObjectNotFoundError(self.uri, key) from error
                case errno.EACCES | errno.EPERM | errno.EROFS:
                    raise AccessDeniedError(f"{what}; run as the folder's owner") from error
                case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
                    raise StorageFullError(
                        f"{what}; nothing was changed: free space or raise the limit, then retry"
                    ) from error
                case errno.EEXIST | errno.ENOTDIR | errno.EISDIR | errno.ENAMETOOLONG:
                    raise KeyClashError(
                        f"{what}; choose a key that is no folder of other keys, lies under no "
                        "other key and has parts of at most 255 bytes"
                    ) from error
            raise StorageError(what) from error


def _version(stat: os.stat_result) -> str:
    return f"{stat.st_mtime_ns}-{stat.st_size}"


def _age(version: str) -> int:
    return int(version.rpartition("-")[0])


def _info(key: str, stat: os.stat_result) -> ObjectInfo:
    modified = datetime.fromtimestamp(stat.st_mtime_ns / 1e9, tz=UTC)
    return ObjectInfo(key, stat.st_size, _version(stat), modified)

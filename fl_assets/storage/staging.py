"""A copy in progress inside a folder store, which goes on where it broke off."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fl_assets.storage.source import SourceFile

BLOCK = 2**20  # bytes that are copied, and reported, at a time


def staged_copy(staging: Path, key: str) -> Path:
    """Return where the copy of a file that becomes ``key`` is made; there is one per key."""
    return staging / f"{hashlib.sha256(key.encode()).hexdigest()}.part"


@contextmanager
def open_alone(path: Path) -> Iterator[int]:
    """Yield a descriptor of a file that no other holds through this function; create the file.

    The lock frees itself when its process dies.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_still(path, descriptor):
                yield descriptor
                return
        finally:
            os.close(descriptor)


def _is_still(path: Path, descriptor: int) -> bool:
    # Whoever had the lock before may have renamed the file to its key.
    return path.exists() and os.path.samestat(path.stat(), os.fstat(descriptor))


def complete(descriptor: int, source: SourceFile, progress: Callable[[int], None]) -> None:
    """Make a copy complete.

    What an earlier call left is compared with the file, since after a power cut, or for another
    file, it may be something else; from the first block that differs on it is copied anew.
    """
    done = _agreeing(descriptor, source)
    os.ftruncate(descriptor, done)
    os.lseek(descriptor, done, os.SEEK_SET)
    progress(done)
    # Up to the size that it had: somebody may be writing to it without an end.
    while block := source.read(done, min(BLOCK, source.size - done)):
        view = memoryview(block)
        while view:
            view = view[os.write(descriptor, view) :]
        done += len(block)
        progress(done)


def _agreeing(descriptor: int, source: SourceFile) -> int:
    start = 0
    while block := os.pread(descriptor, BLOCK, start):
        if block != source.read(start, len(block)):
            break
        start += len(block)
    return start

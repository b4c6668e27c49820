"""A lock on a folder store: a lock of the operating system on a file."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from fl_assets.storage.disk import make_folder
from fl_assets.storage.locks import TICK, Held, Holder, LockHeldError


@contextmanager
def flocked(path: Path, uri: str, name: str, wait: float) -> Iterator[Held]:
    """Hold a file alone among all threads and processes; the lock frees itself with its process.

    Args:
        path: of the file, which stays.
        uri, name: of the store and the lock, for the error.
        wait: seconds.

    Raises:
        LockHeldError: it did not become free in time.
    """
    make_folder(path.parent)
    # A lock is of the open file, not of the process: each that opens it anew excludes all others.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        end = time.monotonic() + wait
        while not _locked(descriptor):
            if time.monotonic() >= end:
                raise LockHeldError(uri, name, _holder(descriptor), wait)
            time.sleep(TICK)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, Holder().model_dump_json().encode(), 0)
        yield Held(lambda: None)
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(descriptor: int) -> Holder | None:
    try:
        return Holder.model_validate_json(os.pread(descriptor, 4096, 0))
    except ValidationError:
        # It has only just taken the lock.
        return None

"""The local file that is put into a store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from fl_assets.storage.base import StorageError


class UnreadableFileError(StorageError):
    """The file to store cannot be read."""


class FileChangedError(StorageError):
    """Somebody wrote to the file while it was being stored."""


class SourceFile:
    """A file that is open for storing.

    Attributes:
        size: bytes.
    """

    def __init__(self, path: Path, stream: BinaryIO) -> None:
        self._path = path
        self._stream = stream
        self._before = os.fstat(stream.fileno())
        self.size = self._before.st_size

    def read(self, start: int, length: int) -> bytes:
        """Return up to ``length`` bytes from ``start``."""
        try:
            self._stream.seek(start)
            return self._stream.read(length)
        except OSError as error:
            raise _unreadable(self._path, error) from error

    def check_unchanged(self) -> None:
        """Do nothing if the file is as it was when it was opened.

        Raises:
            FileChangedError: it is not, so that what was read may be of two states.
        """
        now = os.fstat(self._stream.fileno())
        if (now.st_size, now.st_mtime_ns) != (self.size, self._before.st_mtime_ns):
            raise FileChangedError(
                f"{self._path} was written to while it was being stored, and nothing was changed "
                "in the store: wait until the file is complete, then store it again"
            )


@contextmanager
def reading(path: Path) -> Iterator[SourceFile]:
    """Open a file for storing.

    Raises:
        UnreadableFileError: it cannot be read.
    """
    try:
        stream = path.open("rb")
    except OSError as error:
        raise _unreadable(path, error) from error
    with stream:
        yield SourceFile(path, stream)


def _unreadable(path: Path, error: OSError) -> UnreadableFileError:
    return UnreadableFileError(f"{path} cannot be read ({error.strerror}): name a readable file")

"""Files and folders of a folder store on the disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def has_symlink(path: Path) -> bool:
    """Tell whether a symbolic link is on the way to ``path``."""
    return os.path.realpath(path) != str(path)


def walk(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield every plain file that is not hidden; what disappears meanwhile is left out."""
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from walk(entry.path)
        elif entry.is_file(follow_symlinks=False):
            with suppress(FileNotFoundError):
                yield entry.path, entry.stat(follow_symlinks=False)


def make_folder(path: Path) -> None:
    """Create a folder and its parents for the owner alone, to survive a power cut."""
    # Not mkdir(parents=True): that would create the parents with the umask's mode.
    if path.is_dir():
        return
    make_folder(path.parent)
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        if not path.is_dir():
            raise
    sync(path.parent)


def sync(path: Path) -> None:
    """Fsync a folder (which keeps the names in it) or a file."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""A pod's last words, by which the coordinator learns why it failed."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fl_assets.errors import BadDataError, FlAssetsError

log = logging.getLogger(__name__)

FINAL = 69
"""Exit code of a pod in whose place another would fail as well: EX_UNAVAILABLE of sysexits.h."""

_LONGEST = 4096  # bytes that Kubernetes keeps


@contextmanager
def telling_why(*final: type[FlAssetsError]) -> Iterator[None]:
    """End the process with an exit code and a termination message if anything is raised.

    The exit code is ``FINAL`` for bad data and for errors of the types ``final``, else 1. The
    coordinator reads the message, and no log. So it has the whole text of our own errors,
    which name no patient's value, and the mere type of any other. The file is the one that
    Kubernetes reads unless ``FLA_TERMINATION_LOG`` names another.
    """
    try:
        yield
    except FlAssetsError as error:
        _write(f"{type(error).__name__}: {error}")
        log.error("%s: %s", type(error).__name__, error)
        sys.exit(FINAL if isinstance(error, (BadDataError, *final)) else 1)
    except Exception as error:
        _write(f"unforeseen {type(error).__name__}: the pod's own log says where it happened")
        log.exception("unforeseen")
        sys.exit(1)


def _write(text: str) -> None:
    path = Path(os.environ.get("FLA_TERMINATION_LOG") or "/dev/termination-log")
    try:
        path.write_bytes(text.encode()[:_LONGEST])
    except OSError as error:
        log.error("no termination message could be left at %s: %s", path, error.strerror)

"""Death at a file operation, for tests of what survives it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

_EVENTS = {"open", "os.rename", "os.link", "os.remove", "os.mkdir"}


def die_at_file_use(kill_at: float) -> Callable[[], int]:
    """Have this process kill itself at its n-th use of a file from now on.

    Returns:
        What tells how often files were used so far.
    """
    used = 0

    def count(event: str, _: object) -> None:
        nonlocal used
        used += event in _EVENTS
        if used >= kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    return lambda: used

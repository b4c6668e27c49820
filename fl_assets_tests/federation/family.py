"""The processes below this one."""

from __future__ import annotations

import os
import subprocess


def descendants() -> set[int]:
    """Ids of the processes below this one that still run."""
    table = subprocess.run(
        ["ps", "-eo", "pid=,ppid=,stat=,comm="], capture_output=True, text=True, check=True
    )
    rows = [line.split(None, 3) for line in table.stdout.splitlines()]
    parents = {int(p): int(parent) for p, parent, state, name in rows if state[0] != "Z"}
    lookers = {int(p) for p, _, _, name in rows if name == "ps"}
    found = {os.getpid()}
    while more := {p for p, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {os.getpid()} - lookers

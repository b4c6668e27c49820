"""Processes of pods, also those that left the process group of their pod."""

from __future__ import annotations

import contextlib
import os
import signal as signals
import subprocess
from pathlib import Path

from fl_assets_tests.cluster.fakekube.container import Command

# In the environment of every process of a pod, and of its children.
MARK = "FAKEKUBE_POD"


class Processes:
    """The main process of a container and all that it started."""

    def __init__(self, mark: str, command: Command, folder: Path) -> None:
        self._mark = f"{MARK}={mark}".encode()
        self.main = subprocess.Popen(
            command.arguments,
            env={**command.environment, MARK: mark},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def living(self) -> list[int]:
        """Return the ids of the processes that run."""
        numbers = (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())
        return [number for number in numbers if self._belongs(number)]

    def signal(self, number: int) -> None:
        """Send a signal to all of them."""
        for process in self.living():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)

    def terminate(self) -> None:
        """Ask the main process to end, as a container runtime asks."""
        self.main.terminate()

    def end(self) -> int:
        """Kill whatever still runs and return the exit code of the main process."""
        # Once is not enough where one is just starting another.
        while self.living():
            self.signal(signals.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.main.wait(0.01)
        code = self.main.wait()
        return 128 - code if code < 0 else code

    def _belongs(self, number: int) -> bool:
        # A process may end between two looks, and a zombie has neither environment nor threads.
        try:
            status = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
            if status[0] in "ZX":
                return False
            if int(status[2]) == self.main.pid:
                return True
            return self._mark in Path(f"/proc/{number}/environ").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return False

"""Child processes that end with their parent, and say why when they end before."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

from fl_assets.config import StrictModel
from fl_assets.federation.job import FederationError

MARK = "FLA_DEPLOYMENT"
"""Variable that every process of a deployment has, with the folder of its run."""

START_SECONDS = 120.0
"""For a process to start, on a machine that has other things to do as well."""

_LAST_LINES = 15
_POLL_SECONDS = 0.02
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH")


class ProcessDiedError(FederationError):
    """A process of the deployment ended by itself."""

    def __init__(self, child: Child) -> None:
        code = child.code
        how = signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
        super().__init__(f"process {child.name} ended with {how}{child.last_words()}")


class NotStartedError(FederationError):
    """A process of the deployment did not become ready."""

    def __init__(self, child: Child) -> None:
        super().__init__(
            f"process {child.name} was not ready after {START_SECONDS:g} s{child.last_words()}"
        )


class Child:
    """A Python module in a process group of its own.

    Its standard input is a pipe whose other end is here and closes with this process, however
    that ends; see :func:`fl_assets.federation.deployment.entry.begin`.

    Args:
        name: of the process, its log and its own folder.
        module: to run; it calls :func:`fl_assets.federation.deployment.entry.begin`.
        arguments: of the module.
        folder: of the run.
        environment: beside what every process gets.
        keep: file descriptors that it inherits.
        private: its log may quote a patient once it is ready, so the log's lines stay there.
    """

    def __init__(
        self,
        name: str,
        module: str,
        arguments: StrictModel,
        folder: Path,
        environment: Mapping[str, str],
        *,
        keep: Collection[int] = (),
        private: bool = False,
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._private = private
        self._announced = announced_file(folder, name)
        self._announced.unlink(missing_ok=True)
        home = folder / name
        home.mkdir(exist_ok=True)
        # It may quote a patient.
        self.log.touch(0o600)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, arguments.model_dump_json()],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=_environment(home) | dict(environment) | {MARK: str(folder)},
                cwd=home,
                start_new_session=True,
                pass_fds=tuple(keep),
            )

    @property
    def pid(self) -> int:
        """The id of the process and of its group."""
        return self._process.pid

    @property
    def code(self) -> int | None:
        """The exit code, negative for a signal; None while the process runs."""
        return self._process.poll()

    def await_announced(self) -> str:
        """Wait until the process is ready; return what it announced.

        Raises:
            ProcessDiedError, NotStartedError: it will not be.
        """
        end = time.monotonic() + START_SECONDS
        while not self._announced.exists():
            self.check()
            if time.monotonic() > end:
                raise NotStartedError(self)
            time.sleep(_POLL_SECONDS)
        return self._announced.read_text()

    def check(self, patience: float = 0.0) -> None:
        """Do nothing while the process runs.

        Args:
            patience: seconds to wait for the end of a process that may be about to end.

        Raises:
            ProcessDiedError: it has ended.
        """
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(patience)
        if self.code is not None:
            raise ProcessDiedError(self)

    def last_words(self) -> str:
        """Return the end of the log, where it may be shown, and where the log is."""
        text = _COLOURS.sub("", self.log.read_text(errors="replace"))
        lines = [line for line in text.splitlines() if line.strip()][-_LAST_LINES:]
        if not lines or (self._private and self._announced.exists()):
            return f"; see {self.log}"
        return "\n".join((f"; the end of {self.log}:", *lines))

    def kill(self) -> None:
        """End the process and whatever it has started; it holds nothing that must be saved."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()


def announced_file(folder: Path, name: str) -> Path:
    """Return the file by which a process says that it is ready."""
    return folder / f"{name}.ready"


def _environment(home: Path) -> dict[str, str]:
    """Return what every process gets: nothing of this process's that could be a secret."""
    passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return passed_on | {
        # Not the user's, where credentials may be.
        "HOME": str(home),
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }

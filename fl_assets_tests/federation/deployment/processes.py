"""Processes of deployments, as the system sees them, and children for tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fl_assets.federation.deployment.children import MARK, Child, announced_file
from fl_assets_tests.federation.deployment.child import Order

PATIENCE = 60.0
HERE = {"PYTHONPATH": str(Path(__file__).resolve().parents[3])}


def marked(folder: Path) -> set[int]:
    """Return the ids of all processes of the deployment in a folder, except dead ones."""
    mark = f"{MARK}={folder}".encode()
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes().split(b"\0"):
                found.add(int(process.name))
        except OSError:
            continue
    return found


def environment_of(pid: int) -> dict[str, str]:
    """Return the environment that a process was started with."""
    pairs = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(pair.split("=", 1) for pair in pairs if pair)


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until something is so."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.01)


def child(folder: Path, name: str = "child", *, private: bool = False, **order: object) -> Child:
    """Start the child."""
    announced = announced_file(folder, name)
    return Child(
        name,
        "fl_assets_tests.federation.deployment.child",
        Order.model_validate({"announced": announced} | order),
        folder,
        HERE,
        private=private,
    )


@contextmanager
def parent(folder: Path, module: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run a process that starts a deployment in a folder; at the end nothing of it is left."""
    with subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        env={**os.environ, **HERE},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # What a shell starts in the background ignores interrupts, with all that comes of it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        try:
            yield process
        finally:
            process.kill()
            for pid in marked(folder):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

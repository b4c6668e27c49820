"""What every process of a deployment does first."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import time
from pathlib import Path
from threading import Thread
from typing import TypeVar

from fl_assets.config import StrictModel
from fl_assets.federation.deployment.pki import LOOPBACK

Arguments = TypeVar("Arguments", bound=StrictModel)

_POLL_SECONDS = 0.02


def begin(arguments: type[Arguments]) -> Arguments:
    """Return the process's arguments, and see to it that it ends with its parent."""
    Thread(target=_end_with_parent, name="parent", daemon=True).start()
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
    # It has a handler of its own, and tells of every request too.
    flower = logging.getLogger("flwr")
    flower.propagate = False
    flower.setLevel(logging.INFO)
    return arguments.model_validate_json(sys.argv[1])


def _end_with_parent() -> None:
    # The parent holds the other end of this pipe. It never writes, so this waits for its end,
    # whatever ends it.
    os.read(sys.stdin.fileno(), 1)
    os.killpg(0, signal.SIGKILL)


def listen(port: int, host: str = LOOPBACK) -> socket.socket:
    """Return a socket that listens at an IP address, on any free port if ``port`` is 0."""
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.bind((host, port))
    found.listen()
    return found


def address_of(listening: socket.socket) -> str:
    """Return ``host:port`` of a socket."""
    host, port = listening.getsockname()
    return f"{host}:{port}"


def announce(file: Path, text: str) -> None:
    """Write a file that other processes wait for, in one piece."""
    draft = file.with_name(f"{file.name}.draft")
    draft.write_text(text)
    draft.replace(file)


def await_announced(file: Path) -> str:
    """Wait for what another process announces; the parent ends a wait in vain."""
    while not file.exists():
        time.sleep(_POLL_SECONDS)
    return file.read_text()

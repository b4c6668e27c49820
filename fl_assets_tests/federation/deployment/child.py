"""A child that does as it is told, in place of Flower's."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from fl_assets.config import StrictModel
from fl_assets.federation.deployment import entry


class Order(StrictModel):
    """What the child is to do.

    Attributes:
        announced: file to announce itself in, if it is to do so.
        words: to print.
        end: ``exit`` with code 3, ``raise`` an error, or ``wait``.
        grandchild: whether to start a process of its own.
    """

    announced: Path | None = None
    words: str = ""
    end: str = "wait"
    grandchild: bool = False


def main() -> None:
    """Be the child; with a folder as argument be the parent of one."""
    if sys.argv[1].startswith("/"):
        from fl_assets_tests.federation.deployment.processes import child

        started = child(Path(sys.argv[1]), grandchild=True)
        print(started.await_announced(), flush=True)
        signal.pause()
    given = entry.begin(Order)
    print(given.words, flush=True)
    if given.grandchild:
        subprocess.Popen(["sleep", "600"])
    if given.announced is not None:
        entry.announce(given.announced, "hello")
    if given.end == "raise":
        raise ValueError(given.words)
    if given.end == "exit":
        sys.exit(3)
    signal.pause()


if __name__ == "__main__":
    main()

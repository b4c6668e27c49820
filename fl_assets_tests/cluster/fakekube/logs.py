"""The log of a container."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import IO


@dataclass(frozen=True)
class View:
    """Which part of a log is asked for, and how."""

    follow: bool = False
    timestamps: bool = False
    tail_lines: int | None = None
    since_seconds: int | None = None


class Log:
    """Lines with the time at which they came."""

    def __init__(self) -> None:
        self._lines: list[tuple[datetime, bytes]] = []
        self._news = threading.Condition()
        self._complete = False

    def fill(self, stream: IO[bytes]) -> None:
        """Take lines from a stream up to its end."""
        for line in stream:
            with self._news:
                self._lines.append((datetime.now(UTC), line))
                self._news.notify_all()

    def complete(self) -> None:
        """Tell the followers that nothing more comes."""
        with self._news:
            self._complete = True
            self._news.notify_all()

    def text(self) -> str:
        """Return all that came so far."""
        return b"".join(self.read(View())).decode(errors="replace")

    def read(self, view: View) -> Iterator[bytes]:
        """Yield lines, with ``follow`` until the log is complete."""
        with self._news:
            known = len(self._lines)
        place = 0 if view.tail_lines is None else max(0, known - view.tail_lines)
        oldest = datetime.min.replace(tzinfo=UTC)
        if view.since_seconds is not None:
            oldest = datetime.now(UTC) - timedelta(seconds=view.since_seconds)
        while True:
            with self._news:
                while view.follow and place == len(self._lines) and not self._complete:
                    self._news.wait()
                news, last = self._lines[place:], not view.follow or self._complete
                place += len(news)
            yield from (_shown(*line, view) for line in news if line[0] >= oldest)
            if last:
                return


def _shown(moment: datetime, line: bytes, view: View) -> bytes:
    when = moment.strftime("%Y-%m-%dT%H:%M:%S.%f000Z ").encode() if view.timestamps else b""
    return when + line

"""Asking many hospitals in bounded time, so that one that hangs holds up no other."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Thread
from typing import Generic, TypeVar

from fl_assets.errors import FlAssetsError

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Polled(Generic[Answer]):
    """What became of the questions, by hospital.

    Attributes:
        answers: those that came in time.
        failures: why others gave none: the error, or that they took too long.
        not_asked: for whom no time was left, in order.
    """

    answers: dict[str, Answer] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    not_asked: list[str] = field(default_factory=list)


def poll(
    names: Sequence[str], ask: Callable[[str], Answer], seconds: float, workers: int = 8
) -> Polled[Answer]:
    """Ask hospitals side by side until the time is up.

    Args:
        names: of hospitals; the first ones are asked first.
        ask: the question, not to be answered by None. An :class:`fl_assets.errors.FlAssetsError`
            is that hospital's failure; another error is raised here.
        seconds: for all of them together.
        workers: hospitals that are asked at the same time.
    """
    waiting, begun = deque(names), list[str]()
    outcomes: dict[str, Answer | Exception] = {}
    end = time.monotonic() + seconds

    def work() -> None:
        with suppress(IndexError):
            while time.monotonic() < end:
                name = waiting.popleft()
                begun.append(name)
                try:
                    outcomes[name] = ask(name)
                except Exception as error:
                    outcomes[name] = error

    # Daemons, since nothing can stop one that hangs and the process must be able to end.
    threads = [Thread(target=work, daemon=True) for _ in range(min(workers, len(names)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    # Copies, which a late answer does not change any more.
    return _sort(names, list(begun), dict(outcomes), f"it did not answer within {seconds:g} s")


def _sort(
    names: Sequence[str],
    begun: Sequence[str],
    outcomes: Mapping[str, Answer | Exception],
    late: str,
) -> Polled[Answer]:
    found: Polled[Answer] = Polled(not_asked=[name for name in names if name not in begun])
    for name in begun:
        outcome = outcomes.get(name)
        if isinstance(outcome, FlAssetsError):
            found.failures[name] = f"{type(outcome).__name__}: {outcome}"
        elif isinstance(outcome, Exception):
            raise outcome
        elif outcome is None:
            found.failures[name] = late
        else:
            found.answers[name] = outcome
    return found

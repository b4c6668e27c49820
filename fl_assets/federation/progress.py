"""A line of progress per round."""

from __future__ import annotations

import math
import sys
from collections import deque
from statistics import fmean
from typing import TextIO

from fl_assets.federation.rounds import Phase, RoundReport

_RECENT = 20  # rounds behind the estimate of the time left


class ProgressLine:
    """Shows rounds as they end: one rewritten line on a terminal, about ten lines in a log.

    The time left is of the phase that is under way, as if its rounds took what the recent ones
    took.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._phase: Phase | None = None
        self._durations: deque[float] = deque(maxlen=_RECENT)

    def resumed(self, round_: int, phase: Phase) -> None:
        """Say where an interrupted run goes on."""
        self._stream.write(f"{_prefix(phase)}resumed after round {round_}\n")
        self._stream.flush()

    def __call__(self, report: RoundReport, phase: Phase) -> None:
        """Show a round."""
        if phase != self._phase:
            self._phase = phase
            self._durations.clear()
        self._durations.append(report.seconds + (report.gap or 0.0))
        line = describe(report, phase, fmean(self._durations))
        last = report.round == report.rounds
        if self._stream.isatty():
            self._stream.write(f"\r\x1b[K{line}" + ("\n" if last else ""))
        elif last or report.round % math.ceil(report.rounds / 10) == 0:
            self._stream.write(line + "\n")
        self._stream.flush()


def describe(report: RoundReport, phase: Phase, seconds_per_round: float) -> str:
    """Return a round in one line; the validation figures are of the model it began with."""
    parts = [
        f"{_prefix(phase)}round {report.round:>{len(str(report.rounds))}} of {report.rounds}",
        _sites(report),
        *_figures(report),
        f"{report.seconds:.2f} s",
    ]
    if report.round < report.rounds:
        parts.append(f"{_duration(seconds_per_round * (report.rounds - report.round))} left")
    return "  ".join(parts)


def _prefix(phase: Phase) -> str:
    return "" if phase == "training" else f"{phase} "


def _sites(report: RoundReport) -> str:
    text = f"{len(report.sites)} sites"
    if report.dropouts:
        text += f", {len(report.dropouts)} out"
    if report.rejected:
        text += f" ({len(report.rejected)} rejected)"
    return text


def _figures(report: RoundReport) -> list[str]:
    found = (report.train_loss, report.validation_loss, report.validation_auroc)
    if report.sites and all(value is None for value in found):
        return ["no figures leave a private training"]
    names = ("loss", "validation loss", "AUROC")
    return [f"{name} {_figure(value)}" for name, value in zip(names, found, strict=True)]


def _figure(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4f}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"

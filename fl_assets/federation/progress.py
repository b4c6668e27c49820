"""A line of progress per round."""

from __future__ import annotations

import math
import sys
from typing import TextIO

from fl_assets.federation.rounds import RoundReport


class ProgressLine:
    """Shows rounds as they end: one rewritten line on a terminal, about ten lines in a log."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr

    def __call__(self, report: RoundReport) -> None:
        """Show a round."""
        last = report.round == report.rounds
        if self._stream.isatty():
            self._stream.write(f"\r\x1b[K{describe(report)}" + ("\n" if last else ""))
        elif last or report.round % math.ceil(report.rounds / 10) == 0:
            self._stream.write(describe(report) + "\n")
        self._stream.flush()


def describe(report: RoundReport) -> str:
    """Return a round in one line; the validation figures are of the model it began with."""
    parts = [
        f"round {report.round:>{len(str(report.rounds))}} of {report.rounds}",
        f"{len(report.sites)} sites" + (f", {len(report.dropouts)} out" if report.dropouts else ""),
        f"loss {_figure(report.train_loss)}",
        f"validation loss {_figure(report.validation_loss)}",
        f"AUROC {_figure(report.validation_auroc)}",
        f"{report.seconds:.2f} s",
    ]
    return "  ".join(parts)


def _figure(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4f}"

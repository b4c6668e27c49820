"""Figures in words."""

from __future__ import annotations

from fl_assets.learning.evaluation import Evaluation
from fl_assets.learning.paired import PairedMetric


def interval(found: Evaluation | None) -> str:
    """Return an AUROC with its interval and the positives behind it, or n/a."""
    if found is None or found.auroc is None:
        return "n/a"
    if found.auroc_low is None or found.auroc_high is None:
        return f"{found.auroc:.3f}"
    return f"{found.auroc:.3f} [{found.auroc_low:.3f}, {found.auroc_high:.3f}]"


def mean(value: float | None, behind: int, asked: int) -> str:
    """Return a mean over hospitals, or n/a; with "(3 of 4)" where not all have the figure."""
    if value is None:
        return "n/a"
    return f"{value:.3f}" + (f" ({behind} of {asked})" if behind < asked else "")


def of_hospitals(found: PairedMetric, asked: int) -> str:
    """Return " (2 of 4)" behind what is named a mean over hospitals, nothing of one set of rows."""
    return "" if found.hospitals is None else f" ({found.hospitals} of {asked})"


def difference(found: PairedMetric) -> str:
    """Return the difference of a metric between two models with its interval, or n/a."""
    if found.difference is None:
        return "n/a"
    if found.low is None or found.high is None:
        return f"{found.difference:+.3f}"
    return f"{found.difference:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"

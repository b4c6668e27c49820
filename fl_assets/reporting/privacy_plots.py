"""Plots of what privacy was spent on."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from numpy.typing import NDArray

from fl_assets.reporting.images import colour, finish, new_figure, say_empty, to_png

Point = tuple[datetime, float]


def budget_over_time(
    spent: Sequence[Point], refused: Sequence[Point], cap: float, delta: float, hospital: str
) -> bytes:
    """Epsilon of everything charged so far, as steps, against the cap.

    Args:
        spent: time of each entry (UTC) and epsilon after it.
        refused: time of each refusal and what epsilon would have been; crosses, at the upper edge
            where that is far above the cap.
        cap: of the budget.
        delta: at which all epsilons are.
        hospital: name, for the title.
    """
    figure, (ax,) = new_figure(7.0, 3.8)
    top = 1.3 * max(cap, *(value for _, value in spent), 0.0)
    ax.axhline(cap, color=colour(1), linestyle="--", linewidth=1.5, label=f"cap ({cap:g})")
    if spent:
        times, values = _axes(spent)
        ax.step(
            np.insert(times, 0, times[0]),
            np.insert(values, 0, 0.0),
            where="post",
            color=colour(0),
            linewidth=1.8,
            label=f"charged (n = {len(spent)} entries)",
        )
        ax.plot(times, values, "o", color=colour(0), markersize=3)
    if refused:
        times, values = _axes(refused)
        ax.plot(
            times,
            np.minimum(values, 0.97 * top),
            "x",
            color=colour(1),
            markersize=7,
            markeredgewidth=1.8,
            label=f"refused (n = {len(refused)})",
        )
    if spent or refused:
        locator = AutoDateLocator()  # type: ignore[no-untyped-call]
        ax.xaxis.set_major_locator(locator)
        ax.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    else:
        say_empty(ax, "no entry yet")
        ax.set_xticks([])
    ax.set_ylim(0, top)
    ax.legend(fontsize=8, frameon=False, loc="upper left", ncols=3)
    finish(ax, f"Privacy budget of {hospital}", "time (UTC)", f"epsilon at delta {delta:g}", "y")
    return to_png(figure)


def _axes(points: Sequence[Point]) -> tuple[NDArray[np.datetime64], NDArray[np.float64]]:
    # NumPy's times know no zone; these are UTC.
    times = [time.replace(tzinfo=None) for time, _ in points]
    return np.array(times, dtype="datetime64[us]"), np.array([value for _, value in points])

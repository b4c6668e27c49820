"""Plots of a hyper-parameter search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from fl_assets.reporting.images import MUTED, colour, finish, new_figure, say_empty, to_png

_COLUMNS = 3


@dataclass(frozen=True)
class Slice:
    """One parameter over the trials that gave an objective.

    Attributes:
        name: of the parameter.
        numbers: of the trials, from 0.
        values: of the parameter, or the index of its label.
        objectives: of the trials.
        log: whether its axis is logarithmic.
        labels: of its choices, if it has such.
    """

    name: str
    numbers: Sequence[int]
    values: Sequence[float]
    objectives: Sequence[float]
    log: bool = False
    labels: Sequence[str] = ()


def optimisation_history(objectives: Sequence[float | None], label: str, maximised: bool) -> bytes:
    """The objective of each trial and the best so far; ``None`` is a trial that failed."""
    figure, (ax,) = new_figure(7.0, 3.8)
    trials = np.arange(1, len(objectives) + 1)
    values = np.array(objectives, dtype=float)
    present = ~np.isnan(values)
    if present.any():
        best = (np.fmax if maximised else np.fmin).accumulate(values)
        found = int(present.sum())
        ax.plot(trials[present], values[present], "o", color=colour(0), markersize=5,
                label=f"trial (n = {found})")  # fmt: skip
        ax.step(trials, best, where="post", color=colour(1), linewidth=1.6, label="best so far")
        for trial in trials[~present]:
            ax.axvline(trial, color=MUTED, linestyle=":", linewidth=1)
        if found < len(values):
            ax.plot([], [], color=MUTED, linestyle=":", label=f"failed (n = {len(values) - found})")
        ax.legend(fontsize=8, frameon=False)
    else:
        say_empty(ax)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    finish(ax, "Optimisation history", "trial", label, "both")
    return to_png(figure)


def slices(shown: Sequence[Slice], label: str, best: int) -> bytes:
    """The objective over each parameter; later trials are darker and ``best`` is ringed."""
    columns = min(len(shown), _COLUMNS)
    rows = -(-len(shown) // _COLUMNS)
    figure, axes = new_figure(0.8 + 3.1 * columns, 0.6 + 2.9 * rows, rows, columns)
    for ax, found in zip(axes, shown, strict=False):
        age = np.array(found.numbers, dtype=float)
        ax.scatter(found.values, found.objectives, c=age, cmap="Blues", vmin=-len(age), s=30,
                   edgecolors=colour(0), linewidths=0.5)  # fmt: skip
        if best in found.numbers:
            place = list(found.numbers).index(best)
            ax.scatter(found.values[place], found.objectives[place], s=110, facecolors="none",
                       edgecolors=colour(1), linewidths=1.8)  # fmt: skip
        if found.log:
            ax.set_xscale("log")
            # Over less than a decade the default labels every minor tick, one above the other.
            ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
            ax.xaxis.set_major_formatter("{x:g}")
            ax.xaxis.set_minor_formatter(NullFormatter())
        if found.labels:
            ax.set_xticks(range(len(found.labels)), list(found.labels), rotation=20, ha="right")
            ax.margins(x=0.2)
        finish(ax, "", found.name, label, "y")
    figure.suptitle("Each trial by parameter: darker is later, the ring is the best", fontsize=11)
    for ax in axes[len(shown) :]:
        ax.set_axis_off()
    return to_png(figure)

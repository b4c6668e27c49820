"""Plots of how models do. They take aggregates, never rows, and return PNG bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fl_assets.reporting.images import (
    MUTED,
    colour,
    finish,
    line_style,
    new_figure,
    say_empty,
    to_png,
)


class Bar(NamedTuple):
    """A value with its interval; ``None`` is what does not exist.

    Attributes:
        name: row of the plot.
        value: to show.
        low, high: ends of its interval.
    """

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None


def roc_curves(
    curves: Mapping[str, Sequence[float]],
    auroc: Mapping[str, float | None],
    n: Mapping[str, int],
    title: str = "ROC curves",
) -> bytes:
    """ROC curves from sensitivities on an even grid of false-positive rates from 0 to 1.

    Args:
        curves: per series; an empty one (a class was absent) is left out.
        auroc: per series, for the legend.
        n: people per series, for the legend.
        title: of the plot.
    """
    figure, (ax,) = new_figure(5.6, 5.0)
    ax.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=":", label="chance")
    for place, (name, tpr) in enumerate(curves.items()):
        if len(tpr):
            area = auroc.get(name)
            known = "" if area is None else f"AUROC {area:.3f}, "
            rates = np.linspace(0, 1, len(tpr))
            ax.plot(
                rates,
                tpr,
                color=colour(place),
                linestyle=line_style(place),
                linewidth=1.8,
                label=f"{name} ({known}n = {n[name]:,})",
            )
    ax.set_xlim(-0.01, 1.01)
    ax.set_ylim(-0.01, 1.01)
    ax.set_aspect("equal")
    ax.legend(loc="lower right", fontsize=8, frameon=False)
    finish(ax, title, "false-positive rate (1 − specificity)", "sensitivity", "both")
    return to_png(figure)


def calibration(
    curves: Mapping[str, Sequence[tuple[int, float, float]]],
    title: str = "Calibration",
) -> bytes:
    """Observed rate against mean score per bin, (n, predicted, observed), larger bins larger."""
    figure, (ax,) = new_figure(5.6, 5.0)
    top = max((max(p, o) for bins in curves.values() for _, p, o in bins), default=1.0)
    top = min(1.0, 1.1 * top) or 1.0
    ax.plot([0, top], [0, top], color=MUTED, linewidth=1, linestyle=":", label="perfect")
    for place, (name, bins) in enumerate(curves.items()):
        people = np.array([n for n, _, _ in bins], dtype=float)
        predicted, observed = [p for _, p, _ in bins], [o for _, _, o in bins]
        label = f"{name} (n = {int(people.sum()):,})"
        ax.plot(
            predicted,
            observed,
            color=colour(place),
            linestyle=line_style(place),
            linewidth=1.4,
            label=label,
        )
        sizes = 15 + 45 * people / people.max(initial=1)
        ax.scatter(predicted, observed, s=sizes, color=colour(place), zorder=3)
    ax.set_xlim(0, top)
    ax.set_ylim(0, top)
    ax.legend(loc="upper left", fontsize=8, frameon=False)
    finish(ax, title, "mean predicted probability", "observed rate", "both")
    return to_png(figure)


def comparison_bars(
    bars: Sequence[Bar],
    xlabel: str,
    title: str = "Model comparison",
    reference: tuple[str, float] | None = None,
) -> bytes:
    """Values with their intervals, one row each, in the order given.

    Points, not bars from zero: an AUROC starts at one half, and what matters is the overlap.

    Args:
        bars: rows from the top; one without a value says so.
        xlabel: the metric and the number of people behind it.
        title: of the plot.
        reference: name and value of a vertical line.
    """
    figure, ax = _rows(bars)
    for place, value, low, high in _present(bars):
        ax.plot([low, high], [place, place], color=colour(0), linewidth=3, alpha=0.55)
        ax.plot(value, place, "o", color=colour(0), markersize=6)
        _note(ax, f"{value:.3f}", high, place)
    if reference is not None:
        label = f"{reference[0]} ({reference[1]:.3f})"
        ax.axvline(reference[1], color=colour(1), linestyle="--", linewidth=1.5, label=label)
        figure.legend(loc="outside lower right", fontsize=8, frameon=False)
    ax.margins(x=0.1)
    finish(ax, title, xlabel, grid="x")
    return to_png(figure)


def paired_gain(bars: Sequence[Bar], xlabel: str, title: str = "Gain on the same folds") -> bytes:
    """Mean paired differences with their intervals against a line at zero.

    A row in full colour has an interval that excludes zero; a pale one shows neither gain nor loss.
    """
    figure, ax = _rows(bars)
    ax.axvline(0, color="black", linewidth=1)
    for place, value, low, high in _present(bars):
        clear = low < high and low * high > 0
        shade = colour(0 if value >= 0 else 1)
        ax.barh(place, value, color=shade, height=0.55, alpha=0.9 if clear else 0.35)
        ax.plot([low, high], [place, place], color="black", linewidth=1.4)
        _note(ax, f"{value:+.4f}", max(high, 0.0), place)
    ax.margins(x=0.18)
    finish(ax, title, xlabel, grid="x")
    return to_png(figure)


def _rows(bars: Sequence[Bar]) -> tuple[Figure, Axes]:
    """Axes with a named row per bar, from the top; a row without a value says so."""
    figure, (ax,) = new_figure(height=1.4 + 0.42 * max(len(bars), 1))
    ax.set_yticks(range(len(bars)), [bar.name for bar in bars])
    ax.set_ylim(len(bars) - 0.4, -0.6)
    across = ax.get_yaxis_transform()
    for place, bar in enumerate(bars):
        if bar.value is None:
            ax.text(0.02, place, "does not exist here", va="center", color=MUTED, transform=across)
    return figure, ax


def _present(bars: Sequence[Bar]) -> Iterator[tuple[int, float, float, float]]:
    """(row, value, low, high) of the bars with a value; without interval it is its own ends."""
    for place, (_, value, low, high) in enumerate(bars):
        if value is not None:
            yield place, value, value if low is None else low, value if high is None else high


def _note(ax: Axes, text: str, x: float, place: int) -> None:
    ax.annotate(text, (x, place), (6, 0), textcoords="offset points", va="center", fontsize=8)


def rounds(
    series: Mapping[str, Sequence[float | None]], ylabel: str, title: str = "Training rounds"
) -> bytes:
    """Curves over rounds counted from 1; where a site dropped out (``None``) its line has a gap."""
    figure, (ax,) = new_figure(7.0, 3.8)
    for place, (name, values) in enumerate(series.items()):
        present = sum(value is not None for value in values)
        ax.plot(
            np.arange(1, len(values) + 1),
            np.array(values, dtype=float),
            color=colour(place),
            linestyle=line_style(place),
            linewidth=1.6,
            # A round between two gaps has no line, only its marker.
            marker="o",
            markersize=3,
            label=f"{name} (n = {present} rounds)",
        )
    if series:
        ax.legend(fontsize=8, frameon=False)
    else:
        say_empty(ax)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    finish(ax, title, "round", ylabel, "both")
    return to_png(figure)

"""Plots of what is in the data. They take aggregates, never rows, and return PNG bytes.

A count of ``None`` was suppressed by a site's disclosure floor and is marked as such.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from fl_assets.reporting.images import MUTED, colour, finish, new_figure, say_empty, to_png

SUPPRESSED = "suppressed"
Counts = Sequence[int | None]
Histogram = tuple[Sequence[float], Counts]


def class_balance(
    counts: Mapping[str, tuple[int | None, int]],
    title: str = "Class balance per hospital",
    outcome: str = "positive",
) -> bytes:
    """Share of positives per hospital, from (positives, rows), with the counts beside the bars."""
    figure, (ax,) = new_figure(height=1.2 + 0.42 * max(len(counts), 1))
    for place, (positives, rows) in enumerate(counts.values()):
        if positives is None:
            label, width = f" {SUPPRESSED} (of {rows:,})", 0.0
        else:
            width = 100 * positives / max(rows, 1)
            label = f" {width:.1f} %   ({positives:,} of {rows:,})"
        ax.barh(place, width, color=colour(0), height=0.6)
        ax.text(width, place, label, va="center", fontsize=9)
    ax.set_yticks(range(len(counts)), list(counts))
    ax.invert_yaxis()
    ax.set_xlim(0, max(ax.get_xlim()[1] * 1.45, 1))
    total = sum(rows for _, rows in counts.values())
    finish(ax, f"{title} (n = {total:,})", f"{outcome} (% of patients)", grid="x")
    return to_png(figure)


def missingness(rates: Mapping[str, float], n: int, title: str = "Missing values") -> bytes:
    """Share of ``n`` patients without a value, per column, most incomplete first."""
    figure, (ax,) = new_figure(height=1.2 + 0.3 * max(len(rates), 1))
    ordered = sorted(rates.items(), key=lambda item: -item[1])
    for place, (_, rate) in enumerate(ordered):
        ax.barh(place, 100 * rate, color=colour(1), height=0.6)
        ax.text(100 * rate, place, f" {100 * rate:.1f} %", va="center", fontsize=9)
    ax.set_yticks(range(len(ordered)), [name for name, _ in ordered])
    ax.invert_yaxis()
    ax.set_xlim(0, max(ax.get_xlim()[1] * 1.15, 1))
    finish(ax, f"{title} (n = {n:,})", "missing (% of patients)", grid="x")
    return to_png(figure)


def distributions(
    histograms: Mapping[str, Histogram],
    categories: Mapping[str, Mapping[str, int | None]],
    units: Mapping[str, str] | None = None,
    title: str = "Distributions",
) -> bytes:
    """Small multiples: a histogram per number, (edges, counts), and bars per category column.

    Bins are drawn equally wide with their edges as ticks, since public bins usually are not.
    """
    panels = len(histograms) + len(categories)
    rows = max(-(-panels // 3), 1)
    figure, axes = new_figure(9.0, 0.5 + 2.3 * rows, rows, 3)
    figure.suptitle(title, fontsize=12, fontweight="bold", x=0.01, ha="left")
    free = iter(axes)
    for name, (edges, counts) in histograms.items():
        ax = next(free)
        _bars(ax, [i + 0.5 for i in range(len(counts))], counts, 0)
        ax.set_xticks(range(len(edges)), [f"{edge:g}" for edge in edges])
        ax.tick_params(axis="x", labelsize=8, rotation=45 if len(edges) > 8 else 0)
        unit = (units or {}).get(name)
        finish(ax, name, f"{name} ({unit})" if unit else name, _patients(counts), "y")
    for name, cells in categories.items():
        ax = next(free)
        _bars(ax, range(len(cells)), list(cells.values()), 2)
        ax.set_xticks(range(len(cells)), list(cells))
        if sum(map(len, cells)) > 20:
            ax.tick_params(axis="x", labelrotation=25)
            for tick in ax.get_xticklabels():
                tick.set(ha="right", rotation_mode="anchor")
        ax.tick_params(axis="x", labelsize=8)
        finish(ax, name, "", _patients(list(cells.values())), "y")
    for ax in free:
        ax.set_axis_off()
    if not panels:
        say_empty(axes[1])
    return to_png(figure)


def _bars(ax: Axes, places: Sequence[float], counts: Counts, series: int) -> None:
    ax.bar(places, [count or 0 for count in counts], width=0.92, color=colour(series))
    for place, count in zip(places, counts, strict=True):
        if count is None:
            ax.text(
                place,
                0,
                f" {SUPPRESSED}",
                rotation=90,
                ha="center",
                va="bottom",
                fontsize=7,
                color=MUTED,
            )


def _patients(counts: Counts) -> str:
    known = sum(count or 0 for count in counts)
    return f"patients (n {'≥' if None in counts else '='} {known:,})"


def correlation(
    matrix: Sequence[Sequence[float | None]],
    names: Sequence[str],
    n: int,
    title: str = "Correlation (Pearson)",
) -> bytes:
    """Heat map of a correlation matrix over ``n`` patients; ``None`` is left grey."""
    side = 2.2 + 0.55 * max(len(names), 2)
    figure, (ax,) = new_figure(side + 0.8, side)
    if names:
        values = np.array(matrix, dtype=float)
        # Blue to orange: unlike red to green, told apart by everyone.
        image = ax.imshow(np.ma.masked_invalid(values), cmap="PuOr_r", vmin=-1, vmax=1)
        ax.set_facecolor("#d0d0d0")
        for (row, column), value in np.ndenumerate(values):
            text = "–" if np.isnan(value) else f"{value:.2f}"
            shade = "white" if abs(value) > 0.6 else "black"
            ax.text(column, row, text, ha="center", va="center", fontsize=8, color=shade)
        ax.set_xticks(range(len(names)), names, rotation=35, ha="right", rotation_mode="anchor")
        ax.set_yticks(range(len(names)), names)
        figure.colorbar(image, ax=ax, shrink=0.8, label="correlation (no unit)")
    else:
        say_empty(ax)
    finish(ax, f"{title} (n = {n:,})")
    return to_png(figure)

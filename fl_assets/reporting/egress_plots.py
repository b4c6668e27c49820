"""Plot of what left a hospital."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fl_assets.reporting.images import colour, finish, new_figure, say_empty, to_png


def bytes_per_day(sizes: Mapping[str, Mapping[str, int]], hospital: str) -> bytes:
    """Kilobytes per day, a bar per kind stacked on the others.

    Args:
        sizes: bytes by kind, then by day (``2026-01-31``).
        hospital: name, for the title.
    """
    figure, (ax,) = new_figure(7.0, 3.8)
    days = sorted({day for found in sizes.values() for day in found})
    bottom = np.zeros(len(days))
    for place, (kind, found) in enumerate(sorted(sizes.items())):
        heights = np.array([found.get(day, 0) / 1000 for day in days])
        ax.bar(days, heights, bottom=bottom, width=0.7, color=colour(place), label=kind)
        bottom += heights
    if days:
        ax.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
        ax.tick_params(axis="x", labelrotation=35)
        # Years of days have no room for a name each.
        ax.set_xticks(range(0, len(days), -(-len(days) // 14)))
    else:
        say_empty(ax, "nothing left yet")
        ax.set_xticks([])
    finish(ax, f"What left {hospital}", "day (UTC)", "kB", "y")
    return to_png(figure)

"""Plots of attacks on membership. They take rates, never rows, and return PNG bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fl_assets.reporting.images import (
    MUTED,
    colour,
    finish,
    line_style,
    new_figure,
    say_empty,
    to_png,
)

LOWEST = 1e-3
"""Where the logarithmic axes begin; fewer false alarms cannot be told with a thousand people."""


def attack_roc(
    curves: Mapping[str, Sequence[tuple[float, float]]], title: str = "Attack on membership"
) -> bytes:
    """ROC curves of attacks on logarithmic axes, on which few false alarms can be seen.

    An average over all thresholds hides an attack that is sure of a few people (Carlini et al.
    2022, section III). A curve is drawn in steps, since no threshold lies between two of its
    points.

    Args:
        curves: false- and true-positive rates by series, from (0, 0) to (1, 1).
        title: of the plot.
    """
    figure, (ax,) = new_figure(5.6, 6.2)
    ax.plot([LOWEST, 1], [LOWEST, 1], color=MUTED, linewidth=1, linestyle=":", label="chance")
    for place, (name, points) in enumerate(curves.items()):
        rates = np.maximum(np.array(points), LOWEST)
        ax.plot(
            rates[:, 0],
            rates[:, 1],
            color=colour(place),
            linestyle=line_style(place),
            linewidth=1.8,
            drawstyle="steps-post",
            label=name,
        )
    if curves:
        figure.legend(loc="outside lower center", fontsize=8, frameon=False)
    else:
        say_empty(ax)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(LOWEST, 1)
    ax.set_ylim(LOWEST, 1.05)
    ax.set_aspect("equal")
    across, up = "others taken for members", "members found"
    finish(ax, title, f"{across} (false-positive rate)", f"{up} (true-positive rate)", "both")
    return to_png(figure)

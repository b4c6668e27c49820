"""What a model is worth over the privacy it gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

from fl_assets.reporting.images import MUTED, colour, finish, line_style, new_figure, to_png

_ASIDE = 1.06


@dataclass(frozen=True)
class Utility:
    """A private model.

    Attributes:
        series: models of one series are joined by a line.
        epsilon: of its training.
        value: of the metric.
        spread: half the length of its error bar, 0 for none.
    """

    series: str
    epsilon: float
    value: float
    spread: float = 0.0


def epsilon_utility(shown: Sequence[Utility], references: Mapping[str, float], label: str) -> bytes:
    """A metric over epsilon on a logarithmic axis; references, which are not private, as lines."""
    figure, (ax,) = new_figure(6.8, 4.0)
    for number, series in enumerate(dict.fromkeys(point.series for point in shown)):
        points = sorted((p for p in shown if p.series == series), key=lambda p: p.epsilon)
        ax.errorbar(
            # Aside a little, so that the bar of one series does not hide another's.
            [p.epsilon * _ASIDE**number for p in points],
            [p.value for p in points],
            yerr=[p.spread for p in points],
            color=colour(number),
            marker="o",
            markersize=5,
            capsize=4,
            linewidth=1.6,
            label=series,
        )
    for number, (name, value) in enumerate(references.items()):
        ax.axhline(value, color=MUTED, linestyle=line_style(number + 1), linewidth=1.2, label=name)
    ax.set_xscale("log")
    values = sorted({point.epsilon for point in shown})
    ax.xaxis.set_major_locator(FixedLocator(values))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_minor_formatter(NullFormatter())
    # Below, where no bar is hidden.
    ax.legend(fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncol=4)
    finish(ax, "Utility over privacy", "epsilon of the whole training (log scale)", label, "y")
    return to_png(figure)

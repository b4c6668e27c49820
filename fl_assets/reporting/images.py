"""What every plot shares: canvas, palette, PNG encoding, data URIs.

Figures are built without pyplot, whose registry of open figures is global state that is neither
thread-safe nor freed.
"""

from __future__ import annotations

import re
from base64 import b64encode
from io import BytesIO

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

# Okabe & Ito 2008: eight colours that stay apart under every common colour blindness. Yellow is
# left out, it vanishes on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", "-.", ":")
MUTED = "#8a8f98"
GRID = "#e3e6ea"
DPI = 96


def colour(index: int) -> str:
    """Colour of the series of that number."""
    return PALETTE[index % len(PALETTE)]


def line_style(index: int) -> str:
    """Line style of the series of that number; tells lines apart also without colour."""
    return STYLES[index % len(STYLES)]


def new_figure(
    width: float = 6.4, height: float = 4.0, rows: int = 1, columns: int = 1
) -> tuple[Figure, list[Axes]]:
    """Return a figure of that size in inches and its styled axes, row by row."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")
    grid = figure.subplots(rows, columns, squeeze=False)
    axes: list[Axes] = list(grid.flat)
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.spines[["left", "bottom"]].set_color(MUTED)
        ax.tick_params(labelsize=9, color=MUTED)
        ax.set_axisbelow(True)
    return figure, axes


def finish(ax: Axes, title: str, xlabel: str = "", ylabel: str = "", grid: str = "") -> None:
    """Set the texts of an axes and its grid lines (``"x"``, ``"y"``, ``"both"`` or none)."""
    ax.set_title(title, fontsize=11, loc="left", fontweight="bold")
    ax.set_xlabel(xlabel, fontsize=10)
    ax.set_ylabel(ylabel, fontsize=10)
    if grid in ("x", "both"):
        ax.xaxis.grid(True, color=GRID, linewidth=0.8)
    if grid in ("y", "both"):
        ax.yaxis.grid(True, color=GRID, linewidth=0.8)


def say_empty(ax: Axes, text: str = "nothing to show") -> None:
    """Write in the middle of an axes why it is empty."""
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", color=MUTED)


def to_png(figure: Figure) -> bytes:
    """Encode a figure as PNG with a palette; equal figures give equal bytes.

    Plots travel inside Dagster's metadata and inside the report, and the palette saves two thirds.
    """
    full, small = BytesIO(), BytesIO()
    figure.savefig(full, format="png")
    picture = Image.open(full).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    picture.save(small, format="PNG", optimize=True)
    return small.getvalue()


def data_uri(png: bytes) -> str:
    """Return the image as a ``data:`` URI."""
    return f"data:image/png;base64,{b64encode(png).decode('ascii')}"


def markdown_image(png: bytes, alt: str) -> str:
    """Return a Markdown image with the picture inside, for Dagster's ``MetadataValue.md``."""
    safe = re.sub(r"([\\\[\]])", r"\\\1", " ".join(alt.split()))
    return f"![{safe}]({data_uri(png)})"

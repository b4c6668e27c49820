"""What secure aggregation costs: rounds in process, with masked sums and without.

python -m benchmarks.secure_sums
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from benchmarks.bars import Bar, enforce, show
from benchmarks.hospitals import Hospitals, recipe_with
from benchmarks.setting import DataOption, Setting, console, load_setting, run, table
from fl_assets.cli import Format, FormatOption
from fl_assets.federation.runtimes.inprocess import InProcessRuntime

RECIPES = ("fedavg-lr", "fedprox-embedding")
SITES = (3, 10, 50)
GOAL = 1e-5
"""Largest difference that masks may make to a weight in one round."""


@dataclass(frozen=True)
class Cost:
    """A recipe over a number of sites.

    Attributes:
        recipe, sites: what ran.
        plain, masked: median seconds of a round without masks and with them.
        sent, masked_sent, received, masked_received: bytes of a round, over all sites.
        difference: largest, between the weights of the two models after one round.
    """

    recipe: str
    sites: int
    plain: float
    masked: float
    sent: int
    masked_sent: int
    received: int
    masked_received: int
    difference: float

    @property
    def ratio(self) -> float:
        """Seconds with masks over seconds without."""
        return self.masked / self.plain


def measure(setting: Setting, home: Path, recipe: str, sites: int, rounds: int) -> Cost:
    """Run a recipe with masks and without, the rows dealt to so many sites.

    Args:
        setting: with the rows.
        home: an empty folder.
        recipe: name of a shipped one.
        sites: number of hospitals.
        rounds: that are timed.
    """
    hospitals = Hospitals.virtual(setting, sites, home)
    sides: dict[str, dict[str, Any] | None] = {"plain": None, "masked": {}}
    # Rounding grows as training goes on, so the sum is judged by the first round alone. Imports
    # are paid in it.
    first, found = (
        {
            side: InProcessRuntime().run(
                hospitals.job(recipe_with(recipe, rounds=number, secure_aggregation=masks))
            )
            for side, masks in sides.items()
        }
        for number in (1, rounds)
    )
    one, other = first["plain"].weights, first["masked"].weights
    plain, masked = (found[side].history.rounds for side in sides)
    return Cost(
        recipe,
        sites,
        median(report.seconds for report in plain),
        median(report.seconds for report in masked),
        plain[-1].sent,
        masked[-1].sent,
        plain[-1].received,
        masked[-1].received,
        max(float(np.abs(weights - other[name]).max()) for name, weights in one.items()),
    )


def costs_table(costs: Sequence[Cost]) -> Table:
    """Return a table with a row for each recipe and number of sites."""
    rows = table(
        "A round in process, all sites in turn on one machine: median seconds; kilobytes of all "
        "sites to them / from them",
        ["recipe", "sites", "plain", "masked", "ratio", "more per site", "plain kB", "masked kB"],
        text_columns=1,
    )
    for cost in costs:
        rows.add_row(
            cost.recipe,
            str(cost.sites),
            f"{cost.plain:.3f}",
            f"{cost.masked:.3f}",
            f"{cost.ratio:.2f}",
            f"{(cost.masked - cost.plain) / cost.sites:.4f}",
            f"{cost.sent / 1000:.0f} / {cost.received / 1000:.0f}",
            f"{cost.masked_sent / 1000:.0f} / {cost.masked_received / 1000:.0f}",
        )
    return rows


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    data: DataOption = None,
    sites: Annotated[
        list[int] | None, typer.Option(min=3, help="Several times; 3, 10 and 50 if never.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="That are timed.")] = 4,
    format_: FormatOption = Format.TABLE,
) -> None:
    """Time rounds of two recipes with masked sums and without.

    Exit code 1 when the two give different models. Every message is noted in a hospital's egress
    log, durably, which takes most of the time unless TMPDIR is in memory.
    """
    setting = load_setting(data)
    costs = []
    for recipe in RECIPES:
        for number in sites or SITES:
            with TemporaryDirectory() as home:
                costs.append(measure(setting, Path(home), recipe, number, rounds))
    largest = max(cost.difference for cost in costs)
    bars = [Bar("largest difference of the weights after a round", largest, GOAL, at_most=True)]
    load = os.getloadavg()[0]
    if format_ is Format.JSON:
        document = {
            "data": setting.origin,
            "costs": [asdict(cost) | {"ratio": cost.ratio} for cost in costs],
            "load": load,
            "bars": [bar.document() for bar in bars],
        }
        print(json.dumps(document, indent=2))
    else:
        out = console()
        out.print(costs_table(costs))
        out.print(f"Load of the machine, {os.cpu_count()} cores: {load:.1f}")
        out.print(setting.origin)
        show(bars, out)
    enforce(bars)


if __name__ == "__main__":
    run(app)

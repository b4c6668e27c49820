"""What the federation costs: recipe fedavg-lr in process against a bare torch loop.

Both train the same model on the same rows in the same order and validate it at every site in every
round, and their final weights must agree. They take turns in one process, after a warm-up. The
ratio is judged by CPU time, since other work on the machine stretches wall time, and of
neighbouring runs, since it stretches CPU time a little as well.

    python -m benchmarks.rounds
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.table import Table

from benchmarks.bars import Bar, enforce, show
from benchmarks.contest import Contest, Turn, differences, take_turn
from benchmarks.setting import DataOption, console, run, table
from fl_assets.cli import Format, FormatOption

TOLERANCE = 1e-6
SIDES = {"bare": "bare torch loop", "product": "in process", "mlflow": "in process, MLflow on"}
CLOCKS = {"cpu": "CPU", "wall": "wall"}


@dataclass(frozen=True)
class Ratio:
    """A side's time over the bare loop's, turn by turn.

    Attributes:
        median, low, high: over turns.
        fastest: fastest run of the side over the fastest of the loop, which least feels what else
            the machine does.
    """

    median: float
    low: float
    high: float
    fastest: float

    @classmethod
    def of(cls, side: list[float], bare: list[float]) -> Ratio:
        """Compare seconds per turn."""
        ratios = [a / b for a, b in zip(side, bare, strict=True)]
        return cls(median(ratios), min(ratios), max(ratios), min(side) / min(bare))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def seconds(turns: list[Turn], side: str, clock: str) -> list[float]:
    """Return what a side took in each turn."""
    return [getattr(getattr(turn, side), clock) for turn in turns]


def compare(turns: list[Turn]) -> dict[str, dict[str, Ratio]]:
    """Return each side's ratios to the bare loop, by side and clock."""
    return {
        side: {
            clock: Ratio.of(seconds(turns, side, clock), seconds(turns, "bare", clock))
            for clock in CLOCKS
        }
        for side in SIDES
    }


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    data: DataOption = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="The recipe's unless given.")] = None,
    turns: Annotated[int, typer.Option(min=1, help="Runs of each side.")] = 9,
    goal: Annotated[float, typer.Option(help="Highest median ratio of CPU time.")] = 1.5,
    format_: FormatOption = Format.TABLE,
) -> None:
    """Time the in-process federation against a bare torch loop of the same maths.

    Exit code 1 when the ratio is above the goal or the two sides' weights differ.
    """
    with TemporaryDirectory() as home:
        contest = Contest(data, rounds, Path(home))
        take_turn(contest)
        results = [take_turn(contest) for _ in range(turns)]
    taken = [turn for turn, _, _ in results]
    apart = differences(*results[-1][1:])
    ratios = compare(taken)
    reached = ratios["product"]["cpu"].median
    bars = [
        Bar("median ratio of CPU time", reached, goal, at_most=True),
        Bar("difference of the final weights", apart["weights"], TOLERANCE, at_most=True),
    ]
    if format_ is Format.JSON:
        document = {
            "data": contest.origin,
            "rounds": contest.recipe.rounds,
            "ratios": {s: {c: asdict(r) for c, r in by.items()} for s, by in ratios.items()},
            "differences": apart,
            "bars": [bar.document() for bar in bars],
            "turns": [asdict(turn) for turn in taken],
        }
        print(json.dumps(document, indent=2))
    else:
        out = console()
        out.print(f"{contest.origin}: {contest.recipe.rounds} rounds, {turns} runs of each side")
        out.print(_sides(taken, ratios), _parts(taken))
        gaps = ", ".join(f"{name} {gap:.1e}" for name, gap in apart.items())
        out.print(f"Largest differences between the two sides: {gaps}")
        show(bars, out)
    enforce(bars)


def _sides(turns: list[Turn], ratios: dict[str, dict[str, Ratio]]) -> Table:
    columns = [
        column
        for clock in CLOCKS.values()
        for column in (f"{clock} s", f"{clock} ratio", "of the fastest")
    ]
    rows = table("Seconds (median) and ratio to the bare loop (median, range)", ["", *columns])
    for side, name in SIDES.items():
        cells = []
        for clock in CLOCKS:
            ratio = ratios[side][clock]
            cells += [f"{median(seconds(turns, side, clock)):.2f}", f"{ratio}"]
            cells += [f"{ratio.fastest:.2f}"]
        rows.add_row(name, *cells)
    return rows


def _parts(turns: list[Turn]) -> Table:
    rows = table("Where the time of the in-process run goes (medians)", ["", "CPU s", "wall s"])
    for part in turns[0].parts:
        took = [turn.parts[part] for turn in turns]
        cpu, wall = median(t.cpu for t in took), median(t.wall for t in took)
        rows.add_row(part, f"{cpu:.3f}", f"{wall:.3f}")
    return rows


if __name__ == "__main__":
    run(app)

"""What the federation costs, as ratios: to a bare torch loop, between runtimes, to stock Flower.

python -m benchmarks.federation
python -m benchmarks.federation --part ratios --turns 9
"""

from __future__ import annotations

import json
import os
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from benchmarks.bars import Bar, Report, enforce, show
from benchmarks.contest import compare_sides
from benchmarks.runtimes import compare_runtimes
from benchmarks.scaling import compare_sizes
from benchmarks.setting import DataOption, console, load_setting, run
from benchmarks.stock import compare_with_stock
from fl_assets.cli import Format, FormatOption

NUMBERS = (3, 10, 30, 100)


class Part(StrEnum):
    """Of the benchmark."""

    RATIOS = "ratios"
    RUNTIMES = "runtimes"
    STOCK = "stock"
    SCALING = "scaling"


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    data: DataOption = None,
    part: Annotated[
        list[Part] | None, typer.Option(help="May be given several times; all if never.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Of the parts ratios and runtimes.")] = 50,
    turns: Annotated[int, typer.Option(min=1, help="Runs of each side in part ratios.")] = 5,
    stock_rounds: Annotated[int, typer.Option(min=1, help="Of part stock.")] = 2,
    hospitals: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Of parts runtimes and scaling; 3, 10, 30 and 100 if never."),
    ] = None,
    format_: FormatOption = Format.TABLE,
) -> None:
    """Time the federation in every way in which it can run.

    Exit code 1 when a bar is missed.
    """
    setting = load_setting(data)
    numbers = sorted(set(hospitals or NUMBERS))
    parts = {
        Part.RATIOS: lambda home: compare_sides(setting, home, rounds, turns),
        Part.RUNTIMES: lambda home: compare_runtimes(setting, home, rounds, numbers),
        Part.STOCK: lambda home: compare_with_stock(setting, home, stock_rounds),
        Part.SCALING: lambda home: compare_sizes(setting, home, numbers),
    }
    out = console()
    reports: dict[str, Report] = {}
    loads: dict[str, float] = {}
    for asked in [each for each in Part if each in (part or Part)]:
        with TemporaryDirectory() as home:
            reports[asked] = parts[asked](Path(home))
        loads[asked] = os.getloadavg()[0]
        if format_ is Format.TABLE:
            out.print(*reports[asked].shown, sep="\n")
            out.print(f"Load of the machine, {os.cpu_count()} cores: {loads[asked]:.1f}\n")
    bars: list[Bar] = [bar for report in reports.values() for bar in report.bars]
    if format_ is Format.JSON:
        document = {
            "data": setting.origin,
            "parts": {name: report.document for name, report in reports.items()},
            "loads": loads,
            "bars": [bar.document() for bar in bars],
        }
        print(json.dumps(document, indent=2))
    else:
        out.print(setting.origin)
        show(bars, out)
    enforce(bars)


if __name__ == "__main__":
    run(app)

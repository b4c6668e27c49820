"""Intake, split and profile of many rows, beside one pandas script: speed, memory, growth.

    python -m benchmarks.intake [--rows N ...] [--turns N] [--one-shot-up-to N] [--format json]

Either side runs in a process of its own, of which seconds and peak memory are told, after a first
run on a few rows.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import pyarrow as pa
import typer
from pyarrow import csv
from rich.table import Table

from benchmarks.bars import Bar, enforce, show
from benchmarks.one_shot import one_shot
from benchmarks.setting import REPOSITORY, console, run, table
from fl_assets.cli.output import Format, FormatOption
from fl_assets.cohorts.spec import CohortSpec, load_cohort
from fl_assets.cohorts.synthetic import generate
from fl_assets.consortium import IntakeRules, SplitFractions
from fl_assets.site.intake import collect_records
from fl_assets.site.partitions import PARTS, build_partitions
from fl_assets.site.profile import build_profile
from fl_assets.storage import FolderStore

OURS, ONE_SHOT = "ours", "one shot"
FRACTIONS = SplitFractions(salt="benchmark of intake")
SIZES = [100_000, 1_000_000, 10_000_000]
CHUNK = 250_000
SPEED = 3.0
MEMORY = 2048.0
GROWTH = 1.3


@dataclass(frozen=True)
class Found:
    """What one run took.

    Attributes:
        seconds: of everything.
        peak: memory of the process, MiB.
        rows: accepted, quarantined and so on, by name.
        stages: seconds by stage, where there are stages.
    """

    seconds: float
    peak: float
    rows: dict[str, int]
    stages: dict[str, float]


def write_rows(path: Path, rows: int, spec: CohortSpec, seed: int) -> None:
    """Write synthetic rows as CSV, chunk by chunk.

    Values are drawn from a pool of generated patients, ids are new. One row of a hundred has a bad
    value and another one the id of an earlier row.
    """
    rng = np.random.default_rng(seed)
    pool = generate(spec, min(rows, 20_000), seed)
    ids = rng.permutation(rows)
    double = rng.random(rows) < 0.01
    double[0] = False
    ids[double] = ids[(rng.random(int(double.sum())) * np.flatnonzero(double)).astype(int)]
    with path.open("wb") as stream:
        for start in range(0, rows, CHUNK):
            size = min(CHUNK, rows - start)
            chunk = pool.iloc[rng.integers(0, len(pool), size)].reset_index(drop=True)
            chunk[spec.key_column] = ids[start : start + size].astype(str)
            for name, value in ((spec.age_column, "300"), (spec.label.column, "x")):
                chunk.loc[rng.random(size) < 0.005, name] = value
            options = csv.WriteOptions(include_header=not start, quoting_style="none")
            csv.write_csv(pa.Table.from_pandas(chunk, preserve_index=False), stream, options)


def ours(source: Path, home: Path, spec: CohortSpec) -> Found:
    """Run our intake on a file; it is moved into a hospital's store."""
    store = FolderStore(home)
    (home / "incoming").mkdir(parents=True)
    source.rename(home / "incoming" / source.name)
    ticks = [time.perf_counter()]
    records = collect_records(store, spec, IntakeRules(max_quarantined=1))
    ticks.append(time.perf_counter())
    manifest = build_partitions(store, spec, FRACTIONS)
    ticks.append(time.perf_counter())
    build_profile(store, spec, 5, "benchmark")
    ticks.append(time.perf_counter())
    counts = records.counts
    rows = {
        "records": counts.accepted,
        "quarantine": counts.quarantined,
        "duplicates": counts.duplicates,
        **{part: manifest.files[part].rows for part in PARTS},
    }
    stages = dict(zip(("records", "partitions", "profile"), np.diff(ticks).tolist(), strict=True))
    return Found(ticks[-1] - ticks[0], _peak(), rows, stages)


def theirs(source: Path, home: Path, spec: CohortSpec) -> Found:
    """Run the pandas script on a file."""
    home.mkdir()
    start = time.perf_counter()
    rows = one_shot(source, home, spec, FRACTIONS)
    return Found(time.perf_counter() - start, _peak(), rows, {})


def _peak() -> float:
    """Return the peak memory of this process alone, MiB."""
    status = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in status if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


SIDES = {OURS: ours, ONE_SHOT: theirs}


def measure(side: str, rows: int, seed: int = 1) -> Found:
    """Run a side on so many rows in a process of its own."""
    with TemporaryDirectory(prefix="fla-benchmark-") as folder:
        source = Path(folder) / "rows.csv"
        write_rows(source, rows, load_cohort("stroke"), seed)
        command = [sys.executable, "-m", "benchmarks.intake", "side", side, str(source)]
        answer = subprocess.run(
            command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True
        )
    return Found(**json.loads(answer.stdout))


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(hidden=True)
def side(name: str, source: Path) -> None:
    """Run one side on a file and print what it took; for :func:`measure`."""
    spec, run_side = load_cohort("stroke"), SIDES[name]
    # What is imported late or set up once, before the clock starts.
    write_rows(source.parent / "few.csv", 1000, spec, seed=0)
    run_side(source.parent / "few.csv", source.parent / "few", spec)
    print(json.dumps(asdict(run_side(source, source.parent / "home", spec))))


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    rows: Annotated[list[int], typer.Option(min=1000, help="Sizes.")] = SIZES,
    turns: Annotated[int, typer.Option(min=1, help="Of each side; the fastest counts.")] = 3,
    one_shot_up_to: Annotated[
        int, typer.Option(help="Most rows that the pandas script is given.")
    ] = 2_000_000,
    format_: FormatOption = Format.TABLE,
) -> None:
    """Measure the intake of each number of rows.

    Exit code 1 when a bar is missed.
    """
    if context.invoked_subcommand:
        return
    found: dict[int, dict[str, Found]] = {}
    for size in sorted(rows):
        names = SIDES if size <= one_shot_up_to else [OURS]
        # What else the machine does only ever adds.
        found[size] = {
            name: min((measure(name, size) for _ in range(turns)), key=lambda each: each.seconds)
            for name in names
        }
    bars = judge(found)
    if format_ is Format.JSON:
        sizes = {
            size: {name: asdict(each) for name, each in sides.items()}
            for size, sides in found.items()
        }
        document = {
            "rows": sizes,
            "load": os.getloadavg()[0],
            "bars": [bar.document() for bar in bars],
        }
        print(json.dumps(document, indent=2))
    else:
        out = console()
        out.print(_table(found))
        out.print(f"Load of the machine, {os.cpu_count()} cores: {os.getloadavg()[0]:.1f}\n")
        show(bars, out)
    enforce(bars)


def judge(found: dict[int, dict[str, Found]]) -> list[Bar]:
    """Return the bars: speed beside the script, memory, and seconds per row as rows grow."""
    bars = [
        Bar(f"{size:,} rows: times as fast as one shot", _gain(sides), SPEED)
        for size, sides in found.items()
        if ONE_SHOT in sides
    ]
    largest = max(found)
    peak = found[largest][OURS].peak
    bars.append(Bar(f"{largest:,} rows: peak memory, MiB", peak, MEMORY, at_most=True))
    same = all(
        sides[OURS].rows == sides[ONE_SHOT].rows for sides in found.values() if ONE_SHOT in sides
    )
    bars.append(Bar("both sides count the same rows", float(same), 1))
    if len(found) > 1:
        each = {size: sides[OURS].seconds / size for size, sides in found.items()}
        growth = each[largest] / each[min(found)]
        name = f"seconds per row, {largest:,} to {min(found):,} rows"
        bars.append(Bar(name, growth, GROWTH, at_most=True))
    return bars


def _gain(sides: dict[str, Found]) -> float:
    return sides[ONE_SHOT].seconds / sides[OURS].seconds


def _table(found: dict[int, dict[str, Found]]) -> Table:
    stages = ["records", "partitions", "profile"]
    columns = ["rows", "", "seconds", *stages, "rows per second", "peak MiB", "times as fast"]
    shown = table("Validation, deduplication, split, Parquet and profile", columns, text_columns=2)
    for size, sides in found.items():
        for name, each in sides.items():
            split = [f"{each.stages[stage]:.2f}" if each.stages else "" for stage in stages]
            gain = f"{_gain(sides):.1f}" if name == OURS and ONE_SHOT in sides else ""
            speed = f"{size / each.seconds:,.0f}"
            cells = [f"{each.seconds:.2f}", *split, speed, f"{each.peak:,.0f}", gain]
            shown.add_row(f"{size:,}", name, *cells)
    return shown


if __name__ == "__main__":
    run(app)

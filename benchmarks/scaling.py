"""Part ``scaling``: from a few hospitals to many, in process and in Dagster's definitions."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from benchmarks.bars import Bar, Report
from benchmarks.hospitals import Hospitals, recipe_with, virtual_consortium
from benchmarks.setting import REPOSITORY, Setting, table
from benchmarks.split import measure
from fl_assets.federation.runtimes.inprocess import InProcessRuntime

ROUNDS = 5
RUNS = 3
GOAL = 1.5
LOADING_GOAL = 3.0
_LOAD = """
import time
import dagster as dg
from fl_assets.definitions import defs
dg.Definitions.validate_loadable(defs())
print(time.process_time(), time.time())
"""


@dataclass(frozen=True)
class Loading:
    """Seconds from the start of a process to its loaded definitions."""

    wall: float
    cpu: float


def compare_sizes(setting: Setting, home: Path, numbers: list[int]) -> Report:
    """Measure rounds with each number of hospitals, and load the definitions with the most.

    Args:
        setting: with the rows; every hospital of every size has as many as of the largest size.
        home: an empty folder.
        numbers: of hospitals, the fewest first.
    """
    each = len(setting.rows) // numbers[-1]
    recipe = recipe_with("fedavg-mlp", local_epochs=5, rounds=ROUNDS)
    rows = table(
        f"In process, {each} rows in each hospital: seconds of a round (median)",
        ["hospitals", "a round", "of each hospital", "ratio to the fewest"],
        text_columns=0,
    )
    seconds: dict[int, float] = {}
    for number in numbers:
        hospitals = Hospitals.virtual(setting, number, home / str(number), rows=each)
        runs = [measure(InProcessRuntime(), hospitals.job(recipe)) for _ in range(RUNS)]
        # What else the machine does only ever adds.
        seconds[number] = min(run.a_round.median for run in runs) / number
        cells = [seconds[number] * number, seconds[number], seconds[number] / seconds[numbers[0]]]
        rows.add_row(str(number), f"{cells[0]:.3f}", f"{cells[1]:.4f}", f"{cells[2]:.2f}")
    ratio = seconds[numbers[-1]] / seconds[numbers[0]]
    loading = load_definitions(setting, numbers[-1], home)
    text = (
        f"Definitions with {numbers[-1]} hospitals load in {loading.wall:.2f} s "
        f"(CPU {loading.cpu:.2f} s) from the start of a new process"
    )
    sizes = f"{numbers[-1]} hospitals to {numbers[0]}"
    bars = [
        Bar(f"seconds of a round by hospital, {sizes}", ratio, GOAL, at_most=True),
        Bar("CPU seconds to load the definitions", loading.cpu, LOADING_GOAL, at_most=True),
    ]
    document = {
        "rows": each,
        "seconds_by_hospital": {str(number): s for number, s in seconds.items()},
        "loading": asdict(loading),
    }
    return Report(document, [rows, text], bars)


def load_definitions(setting: Setting, number: int, home: Path) -> Loading:
    """Load the definitions with so many virtual hospitals, in new processes; the fastest counts."""
    file = home / "consortium.yaml"
    consortium = virtual_consortium(setting.consortium, number)
    file.write_text(yaml.safe_dump(consortium.model_dump(mode="json")))
    environment = os.environ | {"FLA_CONSORTIUM": str(file), "FLA_HOME": str(home / "fla")}
    found = []
    for _ in range(RUNS):
        start = time.time()
        answer = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", _LOAD],
            cwd=REPOSITORY,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        cpu, end = map(float, answer.stdout.split()[-2:])
        found.append(Loading(end - start, cpu))
    return min(found, key=lambda loading: loading.cpu)

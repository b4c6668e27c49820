"""Part ``runtimes``: the same apps in every runtime, and where the seconds go."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import get_args

from rich.table import Table

from benchmarks.bars import Bar, Report
from benchmarks.hospitals import Hospitals, recipe_with
from benchmarks.setting import Setting
from benchmarks.split import Split, measure, split_table
from fl_assets.federation.runtimes.base import RuntimeName, build_runtime

MOST_PROCESSES = 10
"""Hospitals that the machine plays with two processes for each."""

FEWEST_ROUNDS = 3
RAY_GOAL = 5.0
GAP_GOAL = 0.2
_TITLE = "MLP of 5 local epochs in every runtime"


def compare_runtimes(setting: Setting, home: Path, rounds: int, numbers: list[int]) -> Report:
    """Run the recipe in every runtime, with each number of hospitals.

    Args:
        setting: with the rows, of which every hospital gets an equal share.
        home: an empty folder.
        rounds: with 3 hospitals; with more there are fewer in proportion.
        numbers: of hospitals, the fewest first.
    """
    found: dict[int, dict[str, tuple[int, Split]]] = {}
    for number in numbers:
        hospitals = Hospitals.virtual(setting, number, home / str(number))
        most = max(FEWEST_ROUNDS, rounds * 3 // number)
        recipe = recipe_with("fedavg-mlp", local_epochs=5, rounds=min(rounds, most))
        found[number] = {
            name: (recipe.rounds, measure(build_runtime(name), hospitals.job(recipe)))
            for name in get_args(RuntimeName)
            if name != "processes" or number <= MOST_PROCESSES
        }
    lines = [
        (number, name, taken, split)
        for number, by in found.items()
        for name, (taken, split) in by.items()
    ]
    skipped = [
        f"Skipped: processes with {number} hospitals would be {2 * number + 2} of them"
        for number in numbers
        if number > MOST_PROCESSES
    ]
    document = {
        str(number): {name: {"rounds": r, **asdict(split)} for name, (r, split) in by.items()}
        for number, by in found.items()
    }
    shown: list[Table | str] = [split_table(_TITLE, lines), *skipped, *_ratios(found)]
    first = {name: split for name, (_, split) in found[numbers[0]].items()}
    return Report(document, shown, _judge(numbers[0], first))


def _ratios(found: dict[int, dict[str, tuple[int, Split]]]) -> list[str]:
    lines = []
    for number, by in found.items():
        base = by["inprocess"][1].total
        others = [f"{n} {s.total / base:.1f}" for n, (_, s) in by.items() if n != "inprocess"]
        lines.append(f"{number} hospitals, times in process end to end: {', '.join(others)}")
    return lines


def _judge(number: int, found: dict[str, Split]) -> list[Bar]:
    times = found["simulation"].total / found["inprocess"].total
    bars = [Bar(f"simulation on Ray, {number} hospitals: times in process", times, RAY_GOAL)]
    if "processes" in found and (gap := found["processes"].gap):
        bars.append(
            Bar(f"processes, {number} hospitals: median gap, s", gap.median, GAP_GOAL, at_most=True)
        )
    return bars

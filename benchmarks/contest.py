"""Part ``ratios``: the product in process against a bare torch loop of the same maths.

Both train the same model on the same rows in the same order and validate it at every site in every
round, and their final weights must agree. They take turns in one process, after a warm-up. The
ratio is judged by CPU time, since other work on the machine stretches wall time, and of
neighbouring runs, since it stretches CPU time a little as well.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from rich.table import Table

from benchmarks.bare import BarePlan, BareResult, BareSite, run_bare
from benchmarks.bars import Bar, Report
from benchmarks.hospitals import Hospitals, recipe_with
from benchmarks.setting import Setting, table
from fl_assets.federation.job import FederationResult
from fl_assets.federation.recipe import Recipe
from fl_assets.federation.runtimes.inprocess import InProcessRuntime
from fl_assets.learning.configs import MLPConfig, OptimizerConfig
from fl_assets.learning.training import train_epochs
from fl_assets.site.partitions import load_manifest
from fl_assets.site.training import load_features
from fl_assets.storage import SiteStore

TOLERANCE = 1e-6
GOALS = {"autograd": 1.2, "shipped": 0.5}
SIDES = {
    "bare": "bare torch loop",
    "autograd": "in process, gradients by autograd",
    "shipped": "in process, as shipped",
}
CLOCKS = {"cpu": "CPU", "wall": "wall"}
TRAININGS = {
    "MLP, 5 local epochs": partial(recipe_with, "fedavg-mlp", local_epochs=5),
    "LR, 5 local epochs": partial(recipe_with, "fedavg-lr", local_epochs=5),
    "LR, 1 local epoch": partial(recipe_with, "fedavg-lr", local_epochs=1),
}


@dataclass(frozen=True)
class Seconds:
    """What something took, on the clock and of the processor."""

    wall: float
    cpu: float


Turn = dict[str, Seconds]
"""One run of each side, next to each other."""


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


class Contest:
    """The sides, on the same rows."""

    def __init__(self, recipe: Recipe, hospitals: Hospitals) -> None:
        self._recipe = recipe
        self._hospitals = hospitals
        self._plan = _bare_plan(recipe, hospitals.preprocessor.cohort.label.prevalence)
        self._sites = [self._bare_site(name, s) for name, s in sorted(hospitals.stores.items())]

    def _bare_site(self, name: str, store: SiteStore) -> BareSite:
        manifest = load_manifest(store)
        train, validation = (
            load_features(store, manifest, part, self._hospitals.preprocessor)
            for part in ("train", "validation")
        )
        return BareSite(name, train.X, train.y, validation.X, validation.y)

    def bare(self) -> BareResult:
        """Run the plain loop."""
        return run_bare(self._sites, self._plan)

    def shipped(self) -> FederationResult:
        """Run the recipe through the product."""
        return InProcessRuntime().run(self._hospitals.job(self._recipe))

    def autograd(self) -> FederationResult:
        """Run the recipe through the product, without gradients by formula."""
        slow = partial(train_epochs, closed_form=False)
        with patch("fl_assets.site.training.train_epochs", slow):
            return self.shipped()

    def take_turn(self) -> tuple[Turn, dict[str, Any]]:
        """Run every side once; return what each took, and its result."""
        taken: Turn = {}
        results = {}
        for side in SIDES:
            results[side], taken[side] = _timed(getattr(self, side))
        return taken, results


def _bare_plan(recipe: Recipe, prevalence: float) -> BarePlan:
    return BarePlan(
        hidden=recipe.model.hidden if isinstance(recipe.model, MLPConfig) else (),
        optimizer=_optimizer(recipe.optimizer),
        rounds=recipe.rounds,
        epochs=recipe.local_epochs,
        batch_size=recipe.batch_size,
        prevalence=prevalence,
        seed=recipe.seed,
    )


def _optimizer(
    config: OptimizerConfig,
) -> tuple[type[torch.optim.SGD] | type[torch.optim.Adam], dict[str, Any]]:
    arguments = config.model_dump(exclude={"kind"})
    if config.kind == "sgd":
        return torch.optim.SGD, arguments
    return torch.optim.Adam, {k: v for k, v in arguments.items() if k != "momentum"}


def _timed(action: Callable[[], Any]) -> tuple[Any, Seconds]:
    start, busy = time.perf_counter(), time.process_time()
    result = action()
    return result, Seconds(time.perf_counter() - start, time.process_time() - busy)


def differences(federated: FederationResult, plain: BareResult) -> dict[str, float]:
    """Return the largest absolute differences between the two sides, by what they are in."""
    weights = np.concatenate([w.ravel() for w in federated.weights.values()])
    figures = np.array(
        [
            [site.validation_loss, site.validation_auroc, site.train_loss]
            for report in federated.history.rounds
            for _, site in sorted(report.sites.items())
        ],
        dtype=np.float64,
    )
    # A site without a positive has no AUROC on either side.
    gaps = np.nanmax(np.abs(figures - np.array(plain.history)), axis=0)
    names = ("validation loss", "validation AUROC", "training loss")
    apart = dict(zip(names, map(float, gaps), strict=True))
    return {"weights": float(np.abs(weights - plain.weights).max()), **apart}


def compare_sides(setting: Setting, home: Path, rounds: int, turns: int) -> Report:
    """Have the sides take turns with each training."""
    hospitals = Hospitals.of_consortium(setting, home)
    report = Report({}, [], [])
    for name, recipe in TRAININGS.items():
        Contest(recipe(rounds=min(rounds, 3)), hospitals).take_turn()
        contest = Contest(recipe(rounds=rounds), hospitals)
        runs = [contest.take_turn() for _ in range(turns)]
        taken, results = [turn for turn, _ in runs], runs[-1][1]
        ratios = {side: _ratios(taken, side) for side in SIDES}
        apart = {side: differences(results[side], results["bare"]) for side in GOALS}
        report.document[name] = {
            "ratios": {s: {c: asdict(r) for c, r in by.items()} for s, by in ratios.items()},
            "differences": apart,
            "turns": [{side: asdict(took) for side, took in turn.items()} for turn in taken],
        }
        report.shown.append(_table(f"{name}, {rounds} rounds", taken, ratios, apart))
        report.bars.extend(_judge(name, ratios, apart))
    return report


def _judge(
    name: str, ratios: dict[str, dict[str, Ratio]], apart: dict[str, dict[str, float]]
) -> Iterator[Bar]:
    for side, goal in GOALS.items():
        training, weights = f"{name}, {side}", apart[side]["weights"]
        yield Bar(f"{training}: ratio of CPU time", ratios[side]["cpu"].median, goal, at_most=True)
        yield Bar(f"{training}: difference of the weights", weights, TOLERANCE, at_most=True)


def _table(
    training: str,
    turns: list[Turn],
    ratios: dict[str, dict[str, Ratio]],
    apart: dict[str, dict[str, float]],
) -> Table:
    title = (
        f"{training}: median of {len(turns)} runs, and ratio to the bare loop (median, range; "
        "and of the fastest runs)"
    )
    columns = [c for clock in CLOCKS.values() for c in (f"{clock} s", "ratio", "fastest")]
    rows = table(title, ["", *columns, "weights apart"])
    for side, shown in SIDES.items():
        cells = []
        for clock, ratio in ratios[side].items():
            cells += [f"{median(_seconds(turns, side, clock)):.2f}", f"{ratio}"]
            cells += [f"{ratio.fastest:.2f}"]
        gap = f"{apart[side]['weights']:.0e}" if side in apart else ""
        rows.add_row(shown, *cells, gap)
    return rows


def _ratios(turns: list[Turn], side: str) -> dict[str, Ratio]:
    return {
        clock: Ratio.of(_seconds(turns, side, clock), _seconds(turns, "bare", clock))
        for clock in CLOCKS
    }


def _seconds(turns: list[Turn], side: str, clock: str) -> list[float]:
    return [getattr(turn[side], clock) for turn in turns]

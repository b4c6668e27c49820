"""What one hostile hospital can do: attacks against aggregators, on the real data.

Each cell is the AUROC on all hospitals' test rows that the same aggregator loses when one hospital
turns hostile in every round; each repeat has other folds, and the next hospital is the hostile one.
The checks of updates are always on. A plain mean claims nothing against an update that looks like
any other, so the sign flip has no bar there.

    python -m benchmarks.poison
"""

from __future__ import annotations

import json
import logging
import math
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.table import Table

from benchmarks.attacks import Attack, run_attacked
from benchmarks.bars import Bar, enforce, show
from benchmarks.comparison import spread
from benchmarks.setting import (
    RECIPES,
    DataOption,
    Parts,
    Setting,
    console,
    deal_folds,
    load_setting,
    run,
    table,
    unlimited,
    write_sites,
)
from benchmarks.workers import run_folds
from fl_assets.cli import Format, FormatOption
from fl_assets.cohorts.split import deal
from fl_assets.consortium import Consortium
from fl_assets.federation.job import FederationJob
from fl_assets.federation.recipe import Recipe, load_recipe
from fl_assets.learning import metrics
from fl_assets.learning.features import Preprocessor
from fl_assets.learning.models import model_for
from fl_assets.learning.training import predict
from fl_assets.site.evaluation import labels
from fl_assets.site.pooling import pooled

FOLDS = 5
GOAL = 0.02
FEDAVG = "fedavg with hygiene"
UNCLAIMED = {(FEDAVG, Attack.SIGN_FLIP)}


@dataclass(frozen=True)
class Aggregator:
    """A strategy with the sites that it needs for one of them to be hostile.

    Krum needs 5 updates in a round, and a hostile one that is refused is none: hence 6.
    """

    strategy: dict[str, Any]
    sites: int = 4


AGGREGATORS = {
    FEDAVG: Aggregator({"kind": "fedavg"}),
    "median": Aggregator({"kind": "median"}),
    "trimmed mean": Aggregator({"kind": "trimmed_mean", "trim": 0.25}),
    "krum": Aggregator({"kind": "krum", "malicious": 1}, sites=6),
}


@dataclass(frozen=True)
class Repeat:
    """One fold to attack: by sites, the setting and the part of every row."""

    dealt: dict[int, tuple[Setting, Parts]]
    recipe: Recipe
    seed: int


@dataclass(frozen=True)
class Outcome:
    """A run under attack.

    Attributes:
        auroc: on all hospitals' test rows; NaN where they have one class.
        refused: fraction of the rounds in which the hostile hospital's update was.
    """

    auroc: float
    refused: float


Outcomes = dict[str, dict[Attack, Outcome]]


@dataclass(frozen=True)
class Cell:
    """An attack on an aggregator, over the repeats.

    Attributes:
        losses: of AUROC against the same aggregator without attack, by repeat.
        refused: mean fraction of rounds in which the hostile update was.
        claimed: whether there is a bar on the mean loss.
    """

    aggregator: str
    attack: Attack
    losses: list[float]
    refused: float
    claimed: bool

    def __str__(self) -> str:
        caught = f" ({self.refused:.0%})" if self.refused else ""
        return f"{spread(self.losses)}{caught}" + ("" if self.claimed else " *")


def with_sites(setting: Setting, sites: int) -> Setting:
    """Return a setting's rows dealt anew to so many hospitals of equal size."""
    document = setting.consortium.model_dump() | {"hospitals": sites}
    consortium = Consortium.model_validate(document)
    dealt = deal(setting.rows, setting.spec, consortium)
    return replace(
        setting,
        consortium=consortium,
        hospital=np.array(dealt.hospitals)[dealt.assignment],
    )


def attack_all(repeat: Repeat) -> Outcomes:
    """Run every attack on every aggregator."""
    logger = logging.getLogger("fl_assets")
    level = logger.level
    # It has a line for every refused update; the table counts them.
    logger.setLevel(logging.ERROR)
    try:
        return {name: _attack(repeat, aggregator) for name, aggregator in AGGREGATORS.items()}
    finally:
        logger.setLevel(level)


def _attack(repeat: Repeat, aggregator: Aggregator) -> dict[Attack, Outcome]:
    setting, parts = repeat.dealt[aggregator.sites]
    asked = {"strategy": aggregator.strategy, "quorum": aggregator.sites - 1}
    recipe = Recipe.model_validate(repeat.recipe.model_dump() | asked)
    preprocessor = Preprocessor.public(setting.spec)
    hostile = setting.consortium.hospital_names[repeat.seed % aggregator.sites]
    with TemporaryDirectory() as home:
        stores = write_sites(setting, parts, Path(home) / "sites")
        test = pooled(setting.consortium, stores, "test")
        X = torch.from_numpy(preprocessor.transform(test))
        model = model_for(recipe.model, preprocessor, recipe.seed)

        def outcome(attack: Attack) -> Outcome:
            job = FederationJob(
                run=attack.name.lower(),
                recipe=recipe,
                preprocessor=preprocessor,
                sites={name: store.uri for name, store in stores.items()},
                output=(Path(home) / "coordinator").as_uri(),
                budgets=unlimited(stores),
            )
            result = run_attacked(job, hostile, attack)
            model.load_state_dict({k: torch.from_numpy(v) for k, v in result.weights.items()})
            auroc = metrics.auroc(labels(test, setting.spec), predict(model, X))
            refused = fmean(hostile in report.rejected for report in result.history.rounds)
            return Outcome(math.nan if auroc is None else auroc, refused)

        return {attack: outcome(attack) for attack in Attack}


def summarise(outcomes: list[Outcomes]) -> list[Cell]:
    """Return the table's cells, row by row."""
    return [
        Cell(
            aggregator=name,
            attack=attack,
            losses=[o[name][Attack.NONE].auroc - o[name][attack].auroc for o in outcomes],
            refused=fmean(o[name][attack].refused for o in outcomes),
            claimed=(name, attack) not in UNCLAIMED,
        )
        for attack in Attack
        if attack is not Attack.NONE
        for name in AGGREGATORS
    ]


def judge(cells: list[Cell]) -> list[Bar]:
    """Return a bar for each cell whose aggregator claims to hold."""
    return [
        Bar(f"AUROC lost by {c.aggregator} to {c.attack}", fmean(c.losses), GOAL, at_most=True)
        for c in cells
        if c.claimed
    ]


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    data: DataOption = None,
    repeats: Annotated[int, typer.Option(min=1, help="Each with other folds.")] = 6,
    seed: Annotated[int, typer.Option(help="Of the first repeat.")] = 0,
    recipe: Annotated[Path, typer.Option(help="Whose model is trained.")] = (
        RECIPES / "fedavg-lr.yaml"
    ),
    workers: Annotated[int, typer.Option(min=1, help="Repeats at a time.")] = os.cpu_count() or 1,
    format_: FormatOption = Format.TABLE,
) -> None:
    """Attack every aggregator with one hostile hospital, and check what they claim.

    Exit code 1 when an aggregator loses more than it claims.
    """
    setting = load_setting(data)
    dealt = {a.sites: with_sites(setting, a.sites) for a in AGGREGATORS.values()}
    loaded = load_recipe(recipe)
    tasks = [
        Repeat(
            {n: (each, next(deal_folds(each, FOLDS, s))) for n, each in dealt.items()}, loaded, s
        )
        for s in range(seed, seed + repeats)
    ]
    outcomes = run_folds(attack_all, tasks, workers)
    cells = summarise(outcomes)
    bars = judge(cells)
    if format_ is Format.JSON:
        document = {
            "data": setting.origin,
            "recipe": loaded.name,
            "repeats": [
                {name: {a: asdict(o) for a, o in by.items()} for name, by in each.items()}
                for each in outcomes
            ],
            "cells": [asdict(cell) for cell in cells],
            "bars": [bar.document() for bar in bars],
        }
        print(json.dumps(document, indent=2))
    else:
        out = console()
        out.print(f"{setting.origin}: {loaded.name}, {repeats} repeats")
        out.print(_table(outcomes, cells))
        show(bars, out)
    enforce(bars)


def _table(outcomes: list[Outcomes], cells: list[Cell]) -> Table:
    sites = [f"{name}, 1 of {a.sites}" for name, a in AGGREGATORS.items()]
    title = (
        "AUROC without attack, and what one hostile hospital takes from it: mean ± deviation over "
        "repeats, and in brackets the\nrounds in which its update was refused. * not claimed. Of 4 "
        "updates the mean without the extremes is the median."
    )
    rows = table(title, ["", *sites])
    clean = [spread(o[name][Attack.NONE].auroc for o in outcomes) for name in AGGREGATORS]
    rows.add_row("AUROC, no attack", *map(str, clean))
    for attack in list(Attack)[1:]:
        rows.add_row(f"lost to {attack}", *(str(c) for c in cells if c.attack is attack))
    return rows


if __name__ == "__main__":
    run(app)

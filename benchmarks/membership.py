"""How well membership can be told: of a recipe's model, and of an over-fitted network.

In every repeat other patients are held out, the recipe is trained by the federation, and each
hospital attacks the model and the positive control as in an audit.

    python -m benchmarks.membership --recipe dp-lr-eps1
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Annotated

import torch
import typer
from rich.table import Table

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
from fl_assets.coordinator.audit import Finding, Group, Subject, pool, shadow_plan
from fl_assets.federation.job import FederationJob
from fl_assets.federation.recipe import Recipe, load_recipe
from fl_assets.federation.runtimes.inprocess import InProcessRuntime
from fl_assets.learning.features import Preprocessor
from fl_assets.learning.models import model_for
from fl_assets.learning.training import derive_seed, predict
from fl_assets.privacy.attacks import Attack
from fl_assets.site.audit import audit_model
from fl_assets.site.comparison import TrainedModel
from fl_assets.site.partitions import load_manifest

FOLDS = 5
CAUGHT = 0.85
PRIVATE = 0.56


@dataclass(frozen=True)
class Repeat:
    """One fold: the part of every row, and the recipe with a seed of its own."""

    setting: Setting
    parts: Parts
    recipe: Recipe


def audit(repeat: Repeat) -> list[Finding]:
    """Train the recipe and return what the attacks show."""
    setting, recipe = repeat.setting, repeat.recipe
    preprocessor = Preprocessor.public(setting.spec).weighted(recipe.features)
    with TemporaryDirectory() as home:
        stores = write_sites(setting, repeat.parts, Path(home) / "sites")
        job = FederationJob(
            run="audited",
            recipe=recipe,
            preprocessor=preprocessor,
            sites={name: store.uri for name, store in stores.items()},
            output=(Path(home) / "coordinator").as_uri(),
            budgets=unlimited(stores),
            noise_seed=derive_seed(recipe.seed, "noise"),
        )
        result = InProcessRuntime().run(job)
        model = model_for(recipe.model, preprocessor, recipe.seed)
        model.load_state_dict({k: torch.from_numpy(v) for k, v in result.weights.items()})
        trained = TrainedModel(preprocessor, lambda X: predict(model, torch.from_numpy(X)), 0.5)
        sites = [
            audit_model(
                store,
                name,
                trained,
                shadow_plan(recipe),
                trained_on=load_manifest(store).version,
                minimum=setting.consortium.minimum_cell,
                run=job.run,
            )
            for name, store in stores.items()
        ]
    return list(pool(sites, recipe.privacy.delta if recipe.privacy else 0.0))


@dataclass(frozen=True)
class Row:
    """An attack over the repeats; NaN where no repeat has a result.

    Attributes:
        subject, group, attack: which.
        auroc, low, high: area under the attack's ROC and the ends of its interval, by repeat.
        hits: members found at 1 % false alarms, by repeat.
        epsilon: largest lower bound.
    """

    subject: Subject
    group: Group
    attack: Attack
    auroc: list[float]
    low: list[float]
    high: list[float]
    hits: list[float]
    epsilon: float

    @property
    def mean(self) -> float:
        """Mean area over the repeats."""
        return fmean(self.auroc) if self.auroc else math.nan


def summarise(repeats: list[list[Finding]]) -> list[Row]:
    """Return a row for each attack on each group of each model."""
    rows = []
    for same in zip(*repeats, strict=True):
        found = [finding.result for finding in same if finding.result is not None]
        rows.append(
            Row(
                subject=same[0].subject,
                group=same[0].group,
                attack=same[0].attack,
                auroc=[r.auroc for r in found],
                low=[r.auroc_low for r in found],
                high=[r.auroc_high for r in found],
                hits=[r.hits for r in found],
                epsilon=max((r.epsilon for r in found), default=0.0),
            )
        )
    return rows


def judge(rows: list[Row], recipe: Recipe, limit: float) -> list[Bar]:
    """Return the bars on LiRA, on the patients of label 1: the ones that an average hides.

    Args:
        rows: of the table.
        recipe: a private one has a lower bar, and its claim.
        limit: of the promotion gate.
    """
    areas = {
        row.subject: row.mean
        for row in rows
        if row.attack is Attack.LIKELIHOOD_RATIO and row.group == "positives"
    }
    allowed = limit if recipe.privacy is None else PRIVATE
    bars = [
        Bar("LiRA on the over-fitted network, positives", areas["control"], CAUGHT),
        Bar(f"LiRA on {recipe.name}, positives", areas["candidate"], allowed, at_most=True),
    ]
    if recipe.privacy is not None:
        shown = max(row.epsilon for row in rows if row.subject == "candidate")
        name = f"epsilon that an attack shows of {recipe.name}"
        bars.append(Bar(name, shown, recipe.privacy.epsilon, at_most=True))
    return bars


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    data: DataOption = None,
    recipe: Annotated[str, typer.Option(help="Name of a recipe in recipes/, or a file.")] = (
        "fedavg-lr"
    ),
    repeats: Annotated[int, typer.Option(min=1, help="Each with other folds.")] = 4,
    seed: Annotated[int, typer.Option(help="Of the first repeat.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Repeats at a time.")] = os.cpu_count() or 1,
    format_: FormatOption = Format.TABLE,
) -> None:
    """Attack a recipe's model and the positive control on several splits.

    Exit code 1 when the control is not caught or the recipe's model gives its patients away.
    """
    setting = load_setting(data)
    file = Path(recipe)
    loaded = load_recipe(file if file.suffix else RECIPES / f"{recipe}.yaml")
    tasks = [
        Repeat(
            setting,
            next(deal_folds(setting, FOLDS, s)),
            loaded.model_copy(update={"seed": loaded.seed + s}),
        )
        for s in range(seed, seed + repeats)
    ]
    rows = summarise(run_folds(audit, tasks, workers))
    bars = judge(rows, loaded, setting.consortium.promotion.max_membership_auc)
    if format_ is Format.JSON:
        document = {
            "data": setting.origin,
            "recipe": loaded.name,
            "rows": [vars(row) for row in rows],
            "bars": [bar.document() for bar in bars],
        }
        print(json.dumps(document, indent=2))
    else:
        out = console()
        out.print(f"{setting.origin}: {loaded.name}, {repeats} repeats")
        out.print(_table(rows))
        show(bars, out)
    enforce(bars)


def _table(rows: list[Row]) -> Table:
    title = (
        "Attacks on membership: mean ± deviation over repeats, and the mean ends of one audit's "
        "95 % interval; 0.5 is chance"
    )
    columns = ["AUROC", "interval", "found at 1 % false alarms", "epsilon at least"]
    shown = table(title, ["model", "people", "attack", *columns], text_columns=3)
    for row in rows:
        interval = f"[{fmean(row.low):.3f}, {fmean(row.high):.3f}]" if row.auroc else "n/a"
        figures = [spread(row.auroc), interval, spread(row.hits), f"{row.epsilon:.2f}"]
        shown.add_row(row.subject, row.group, row.attack, *map(str, figures))
    return shown


if __name__ == "__main__":
    run(app)

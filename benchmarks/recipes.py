"""Every recipe without noise on the real data: the same folds, paired with centralised regression.

A richer model that does not beat logistic regression, and a loss that destroys calibration, are
named as such. Recipes that personalise have a second row, in which every hospital uses its own
model.

    python -m benchmarks.recipes
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.table import Table

from benchmarks.bars import Bar, enforce, show
from benchmarks.comparison import Spread, spread, verdict
from benchmarks.methods import AGE, CENTRAL, MAJORITY, FoldTask
from benchmarks.recipe_fold import FoldScores, score_recipes
from benchmarks.setting import (
    RECIPES,
    DataOption,
    console,
    deal_folds,
    load_recipes,
    load_setting,
    run,
    table,
)
from benchmarks.workers import run_folds
from fl_assets.cli import Format, FormatOption
from fl_assets.federation.recipe import Recipe
from fl_assets.learning import metrics
from fl_assets.learning.intervals import PairedDifference, auroc_interval, paired_difference
from fl_assets.learning.metrics import Metric

REFERENCES = (MAJORITY, AGE, CENTRAL)
COLUMNS = {
    Metric.AUROC: "AUROC",
    Metric.AUPRC: "AUPRC",
    Metric.BALANCED_ACCURACY: "bal. acc.",
    Metric.SENSITIVITY_AT_80_SPECIFICITY: "sens@80sp",
    Metric.BRIER: "Brier",
    Metric.ECE: "ECE",
}
LOST_CALIBRATION = 0.05
"""Of ECE; the calibrated models of this table have 0.01."""


@dataclass(frozen=True)
class Hospital:
    """A model at one hospital: AUROC over the out-of-fold scores of a repeat, with its interval.

    Means over repeats; the interval is DeLong's, so it is that of one repeat.
    """

    name: str
    auroc: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.auroc:.3f} [{self.low:.3f}, {self.high:.3f}] {self.name}"


@dataclass(frozen=True)
class Row:
    """A method of the table.

    Attributes:
        figures: by metric, over folds, on all hospitals' test rows.
        worst: the hospital with the lowest AUROC.
        gap: AUROC minus the centralised regression's, fold by fold.
        remark: what a reader must know of it.
    """

    method: str
    figures: dict[Metric, Spread | None]
    worst: Hospital | None
    gap: PairedDifference
    remark: str


def summarise(results: list[FoldScores], folds: int) -> list[Row]:
    """Return the rows of the table; ``results`` holds whole repeats of so many folds."""
    found = []
    ratio = results[0].test_to_train
    central = [pooled_figures(result, CENTRAL)[Metric.AUROC] for result in results]
    for method in results[0].scores:
        figures = [pooled_figures(result, method) for result in results]
        gap = paired_difference([f[Metric.AUROC] for f in figures], central, test_to_train=ratio)
        over = {metric: spread(f[metric] for f in figures) for metric in COLUMNS}
        worst = min(_hospitals(results, method, folds), key=lambda h: h.auroc, default=None)
        found.append(Row(method, over, worst, gap, _remark(method, over, gap)))
    return found


def pooled_figures(result: FoldScores, method: str) -> dict[Metric, float | None]:
    """Return a method's figures on the test rows of all hospitals together."""
    y = np.concatenate([result.labels[name] for name in result.labels])
    scores = np.concatenate([result.scores[method][name] for name in result.labels])
    chosen = result.thresholds[method]
    return {
        Metric.AUROC: metrics.auroc(y, scores),
        Metric.AUPRC: metrics.auprc(y, scores),
        Metric.BALANCED_ACCURACY: metrics.confusion(y, scores, chosen).balanced_accuracy,
        Metric.SENSITIVITY_AT_80_SPECIFICITY: metrics.sensitivity_at_specificity(y, scores, 0.8),
        Metric.BRIER: metrics.brier(y, scores),
        Metric.ECE: metrics.ece(y, scores),
    }


def _hospitals(results: list[FoldScores], method: str, folds: int) -> Iterator[Hospital]:
    """Each hospital's rows are tested once per repeat: its AUROC is over all of them."""
    for name in results[0].labels:
        repeats: list[tuple[float, float, float]] = []
        for first in range(0, len(results), folds):
            repeat = results[first : first + folds]
            y: NDArray[np.float64] = np.concatenate([r.labels[name] for r in repeat])
            scores = np.concatenate([r.scores[method][name] for r in repeat])
            area, interval = metrics.auroc(y, scores), auroc_interval(y, scores)
            if area is not None and interval is not None:
                repeats.append((area, *interval))
        if repeats:
            area, low, high = (fmean(column) for column in zip(*repeats, strict=True))
            yield Hospital(name, area, low, high)


def _remark(method: str, figures: dict[Metric, Spread | None], gap: PairedDifference) -> str:
    if method in REFERENCES:
        return ""
    remarks = []
    if gap.low is not None and gap.high is not None:
        remarks.append(
            {
                "gain": "beats the regression",
                "loss": "worse than the regression",
                "no gain shown": "does not beat the regression",
            }[verdict(gap)]
        )
    ece = figures[Metric.ECE]
    if ece is not None and ece.mean > LOST_CALIBRATION:
        remarks.append("calibration destroyed")
    return ", ".join(remarks)


def judge(rows: list[Row], recipes: dict[str, Recipe]) -> list[Bar]:
    """Return the bars: the best federated regression and the best federated network."""

    def best(linear: bool) -> tuple[str, float, float]:
        found = [
            (row.figures[Metric.AUROC], row)
            for row in rows
            if row.method in recipes
            and (recipes[row.method].model.kind == "logistic_regression") == linear
        ]
        figures = [(row.method, s.mean, row.gap.mean) for s, row in found if s is not None]
        return max(figures, key=lambda f: f[1], default=("none", math.nan, math.nan))

    regression, network = best(linear=True), best(linear=False)
    return [
        Bar(f"AUROC of {regression[0]} minus {CENTRAL}", regression[2], -0.002),
        Bar(f"AUROC of {network[0]}, the best network", network[1], 0.842),
    ]


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    data: DataOption = None,
    folds: Annotated[int, typer.Option(min=2, help="Folds per repeat.")] = 5,
    repeats: Annotated[int, typer.Option(min=1, help="Other folds, with the next seeds.")] = 1,
    seed: Annotated[int, typer.Option(help="Of the first repeat's folds.")] = 0,
    recipes: Annotated[Path, typer.Option(help="Folder of the recipes.")] = RECIPES,
    workers: Annotated[int, typer.Option(min=1, help="Folds at a time.")] = os.cpu_count() or 1,
    format_: FormatOption = Format.TABLE,
) -> None:
    """Cross-validate every recipe of a folder beside the references, and check two bars.

    Exit code 1 when a bar is missed.
    """
    setting = load_setting(data)
    loaded = load_recipes(recipes)
    # Their noise takes more than one draw: python -m benchmarks.privacy.
    loaded = {name: recipe for name, recipe in loaded.items() if recipe.privacy is None}
    seeds = list(range(seed, seed + repeats))
    tasks = [
        FoldTask(setting, parts, loaded, each)
        for each in seeds
        for parts in deal_folds(setting, folds, each)
    ]
    rows = summarise(run_folds(score_recipes, tasks, workers), folds)
    bars = judge(rows, loaded)
    if format_ is Format.JSON:
        header = {"data": setting.origin, "folds": folds, "seeds": seeds}
        bar_documents = [bar.document() for bar in bars]
        document: dict[str, Any] = {"rows": [asdict(row) for row in rows], "bars": bar_documents}
        print(json.dumps(header | document, indent=2))
    else:
        out = console()
        out.print(f"{setting.origin}: {folds} folds x seeds {', '.join(map(str, seeds))}")
        out.print(_figures(rows), _verdicts(rows))
        show(bars, out)
    enforce(bars)


def _figures(rows: list[Row]) -> Table:
    title = "All hospitals' test rows: mean over folds, with the deviation of the AUROC"
    shown = table(title, ["", *COLUMNS.values()])
    for row in rows:
        cells = []
        for metric in COLUMNS:
            found = row.figures[metric]
            if found is None:
                cells.append("n/a")
            else:
                cells.append(str(found) if metric is Metric.AUROC else f"{found.mean:.3f}")
        shown.add_row(row.method, *cells)
    return shown


def _verdicts(rows: list[Row]) -> Table:
    title = (
        "Worst hospital: AUROC over its out-of-fold scores, 95 % interval. Difference: AUROC minus "
        f"{CENTRAL},\nfold by fold, 95 % interval (Nadeau & Bengio 2003)"
    )
    shown = table(title, ["", "worst hospital", "difference", ""])
    for row in rows:
        gap = row.gap
        interval = "" if gap.low is None else f" [{gap.low:+.4f}, {gap.high:+.4f}]"
        difference = "" if row.method == CENTRAL else f"{gap.mean:+.4f}{interval}"
        shown.add_row(row.method, str(row.worst or "n/a"), difference, row.remark)
    return shown


if __name__ == "__main__":
    run(app)

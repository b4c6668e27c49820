"""What the models reach: references, centralised, each hospital alone, federated; with bars.

All methods see the same folds, stratified by hospital and label, and are compared fold by fold: a
single split of this file moves an AUROC by 0.015, which is more than the methods differ.

    python -m benchmarks.quality
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from benchmarks.bars import Bar, enforce, show
from benchmarks.comparison import POOLED, Difference, compare, judge, spread, values
from benchmarks.methods import FEDAVG, FEDAVG_MLP, FEDPROX, FoldResult, FoldTask, run_fold
from benchmarks.setting import (
    RECIPES,
    DataOption,
    console,
    deal_folds,
    load_setting,
    run,
    table,
)
from benchmarks.workers import run_folds
from fl_assets.cli import Format, FormatOption
from fl_assets.federation.recipe import load_recipe
from fl_assets.learning.metrics import Metric

COLUMNS = {
    Metric.AUROC: "AUROC",
    Metric.AUPRC: "AUPRC",
    Metric.SENSITIVITY_AT_80_SPECIFICITY: "sens@80sp",
    Metric.BRIER: "Brier",
    Metric.ECE: "ECE",
    Metric.ACCURACY: "accuracy",
    Metric.MAJORITY_RATE: "majority",
}


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    data: DataOption = None,
    folds: Annotated[int, typer.Option(min=2, help="Folds per repeat.")] = 5,
    repeats: Annotated[int, typer.Option(min=1, help="Other folds, with the next seeds.")] = 2,
    seed: Annotated[int, typer.Option(help="Of the first repeat's folds.")] = 0,
    recipes: Annotated[Path, typer.Option(help="Folder of the recipes.")] = RECIPES,
    workers: Annotated[int, typer.Option(min=1, help="Folds at a time.")] = os.cpu_count() or 1,
    format_: FormatOption = Format.TABLE,
) -> None:
    """Cross-validate every method on the stroke data, compare them in pairs, check the bars.

    Exit code 1 when a bar is missed.
    """
    setting = load_setting(data)
    loaded = {name: load_recipe(recipes / f"{name}.yaml") for name in (FEDAVG, FEDAVG_MLP, FEDPROX)}
    seeds = list(range(seed, seed + repeats))
    tasks = [
        FoldTask(setting, parts, loaded, each)
        for each in seeds
        for parts in deal_folds(setting, folds, each)
    ]
    results = run_folds(run_fold, tasks, workers)
    differences = compare(results)
    bars = judge(results, differences)
    if format_ is Format.JSON:
        header = {"data": setting.origin, "folds": folds, "seeds": seeds}
        print(json.dumps(header | _document(results, differences, bars), indent=2))
    else:
        out = console()
        out.print(f"{setting.origin}: {folds} folds x seeds {', '.join(map(str, seeds))}")
        for part in (_methods(results), _own(results), _pairs(differences)):
            out.print(part)
        show(bars, out)
    enforce(bars)


def _document(
    results: list[FoldResult], differences: list[Difference], bars: list[Bar]
) -> dict[str, Any]:
    return {
        "folds_run": [asdict(result) for result in results],
        "differences": [
            {"a": d.a, "b": d.b, "where": d.where, "verdict": d.verdict, **asdict(d.found)}
            for d in differences
        ],
        "bars": [bar.document() for bar in bars],
    }


def _methods(results: list[FoldResult]) -> Table:
    """Every method on the pooled test rows."""
    title = (
        "All hospitals' test rows: mean ± deviation over folds. Accuracy is at the threshold that "
        "validation rows\ngave for 80 % specificity; majority is the accuracy of naming nobody."
    )
    rows = table(title, ["", *COLUMNS.values()])
    for method in results[0].pooled:
        cells = []
        for metric in COLUMNS:
            found = spread(result.pooled[method][metric] for result in results)
            cells.append("n/a" if found is None else str(found))
        rows.add_row(method, *cells)
    return rows


def _own(results: list[FoldResult]) -> Table:
    """Each hospital's own test rows, where some have so few strokes that one fold says nothing."""
    rows = table(
        "AUROC on each hospital's own test rows: mean ± deviation over folds",
        ["", "strokes per fold", "hospital alone", FEDAVG, FEDPROX],
    )
    for name in results[0].positives:
        counts = [result.positives[name] for result in results]
        low, high = min(counts), max(counts)
        cells = [
            str(spread(values(results, method, name)) or "n/a")
            for method in (f"{name} alone", FEDAVG, FEDPROX)
        ]
        rows.add_row(name, str(low) if low == high else f"{low} to {high}", *cells)
    return rows


def _pairs(differences: list[Difference], level: float = 0.95) -> Table:
    """The paired differences."""
    rows = table(
        f"AUROC differences fold by fold, {level:.0%} interval of the mean (Nadeau & Bengio 2003)",
        ["", "test rows", "mean", "interval", "wins", ""],
        text_columns=2,
    )
    for each in differences:
        found = each.found
        interval = "n/a" if found.low is None else f"{found.low:+.4f} to {found.high:+.4f}"
        where = each.where if each.where == POOLED else f"{each.where}'s own"
        rows.add_row(
            f"{each.a} minus {each.b}",
            where,
            f"{found.mean:+.4f}",
            interval,
            f"{found.wins} of {found.n}",
            each.verdict,
        )
    return rows


if __name__ == "__main__":
    run(app)

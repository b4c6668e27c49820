"""A finished sweep in words, in the store and in MLflow."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from fl_assets.coordinator.sweep import SweepResult, Trial
from fl_assets.coordinator.sweep_report import (
    describe,
    load_sweep_result,
    publish,
    sweep_plots,
    trial_table,
)
from fl_assets.federation.sweep import Sweep
from fl_assets.settings import Settings
from fl_assets.storage import ObjectNotFoundError
from fl_assets.tracking.runs import Tracking

SPACE = {
    "optimizer.lr": {"low": 0.001, "high": 1.0, "log": True},
    "strategy": {"choices": [{"kind": "fedavg"}, {"kind": "fedprox"}]},
}


def trial(number: int, lr: float, objective: float | None) -> Trial:
    values: dict[str, Any] = {"optimizer.lr": lr, "strategy": {"kind": "fedprox"}}
    failure = "diverged" if objective is None else None
    return Trial(number=number, values=values, objective=objective, failure=failure)


def finished(objective: str = "validation_auroc", **changes: Any) -> SweepResult:
    sweep = Sweep.model_validate(
        {"name": "s", "recipe": "base", "space": SPACE, "trials": 4, "objective": objective}
    )
    trials = (
        trial(0, 0.1, 0.7),
        trial(1, 1.0, None),
        trial(2, 0.0123456, 0.9),
        trial(3, 0.2, 0.8),
    )
    result = SweepResult(sweep=sweep, inputs="abc", trials=trials, best=2, recipe="rounds: 3\n")
    return result.model_copy(update=changes)


def test_the_table_has_the_best_first_and_the_failed_last() -> None:
    table = trial_table(finished())
    assert [row[0] for row in table.rows] == [3, 4, 1, 2]
    assert table.rows[0] == [3, "0.01235", '{"kind": "fedprox"}', "0.9000", None]
    assert table.rows[-1][-1] == "diverged"
    minimised = trial_table(finished("validation_loss"))
    assert [row[0] for row in minimised.rows] == [1, 4, 3, 2]


def test_a_trial_in_one_line() -> None:
    sweep = finished().sweep
    assert describe(trial(2, 0.0123456, 0.9), sweep) == (
        'trial 3 of 4  optimizer.lr 0.01235  strategy {"kind": "fedprox"}  validation_auroc 0.9000'
    )
    assert describe(trial(1, 1.0, None), sweep).endswith("failed: diverged")


def test_a_published_sweep_is_in_the_store_and_in_mlflow_once(world: Settings) -> None:
    store = world.coordinator_store()
    with pytest.raises(ObjectNotFoundError):
        load_sweep_result(store, "s")
    publish(world, finished())
    publish(world, finished())

    assert load_sweep_result(store, "s") == finished()
    assert store.get("sweeps/s.yaml") == b"rounds: 3\n"
    tracking = Tracking(world.tracking_uri, world.consortium.name)
    (run,) = tracking.client.search_runs([tracking.experiment_id()])
    assert run.data.tags["fla.sweep"] == "s"
    assert run.data.metrics == {"validation_auroc": 0.9}
    assert run.data.params["optimizer.lr"] == "0.01235"
    files = {f.path for d in ("sweep", "plots") for f in tracking.client.list_artifacts(
        run.info.run_id, d
    )}  # fmt: skip
    assert files == {
        "sweep/trials.csv",
        "sweep/recipe.yaml",
        "plots/optimisation_history.png",
        "plots/slices.png",
    }
    trials = Path(tracking.client.download_artifacts(run.info.run_id, "sweep/trials.csv"))
    rows = csv.DictReader(trials.read_text().splitlines())
    assert [row["trial"] for row in rows] == ["3", "4", "1", "2"]

    publish(world, finished(recipe="rounds: 4\n"))
    assert len(tracking.client.search_runs([tracking.experiment_id()])) == 2


def test_plots_say_what_they_show() -> None:
    pictures = sweep_plots(finished())
    assert [picture.name for picture in pictures] == ["optimisation_history", "slices"]

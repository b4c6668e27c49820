"""A finished sweep as a table and plots, in the coordinator's store and in MLflow."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from fl_assets.coordinator import documents
from fl_assets.coordinator.sweep import SweepResult, Trial
from fl_assets.federation.sweep import ChoicesConfig, Space, Sweep
from fl_assets.reporting.html import Picture, Table
from fl_assets.reporting.sweep_plots import Slice, optimisation_history, slices
from fl_assets.settings import Settings
from fl_assets.storage import ObjectNotFoundError, SiteStore
from fl_assets.tracking.runs import Tracking


def load_sweep_result(store: SiteStore, name: str) -> SweepResult:
    """Return the latest result of a sweep.

    Raises:
        ObjectNotFoundError: it was never published.
    """
    return documents.load(store, _key(name), SweepResult)


def publish(settings: Settings, result: SweepResult) -> None:
    """Store a result and log it to MLflow, unless the very one was published before.

    Raises:
        TrackingError: MLflow could not be reached; the trials are kept.
    """
    store, name = settings.coordinator_store(), result.sweep.name
    try:
        if load_sweep_result(store, name).version == result.version:
            return
    except ObjectNotFoundError:
        pass
    best, objective = result.trials[result.best], result.sweep.objective
    tracking = Tracking(settings.tracking_uri, settings.consortium.name)
    with tracking.run(f"sweep-{name}-{result.inputs}", {"fla.sweep": name}) as run:
        params = {path: shown(value) for path, value in best.values.items()}
        tracking.log(
            run,
            params={"recipe": result.sweep.recipe, "trials": len(result.trials), **params},
            metrics={objective: best.objective},
        )
        tracking.log_file(run, "sweep/trials.csv", _csv(trial_table(result)))
        tracking.log_file(run, "sweep/recipe.yaml", result.recipe.encode())
        for picture in sweep_plots(result):
            tracking.log_file(run, f"plots/{picture.name}.png", picture.png)
    store.put(f"sweeps/{name}.yaml", result.recipe.encode())
    # Last, since it says that MLflow has it.
    documents.save(store, _key(name), result)


def _key(name: str) -> str:
    return f"sweeps/{name}.json"


def trial_table(result: SweepResult) -> Table:
    """Return every trial, the best first and the failed ones last."""
    sweep = result.sweep
    sign = -1 if sweep.maximised else 1
    ordered = sorted(
        result.trials,
        key=lambda t: (t.objective is None, sign * (t.objective or 0.0), t.number),
    )
    return Table(
        f"Trials of sweep {sweep.name}, the best first",
        ["trial", *sweep.space, sweep.objective, "failure"],
        [
            [
                trial.number + 1,
                *(shown(trial.values[path]) for path in sweep.space),
                None if trial.objective is None else f"{trial.objective:.4f}",
                trial.failure,
            ]
            for trial in ordered
        ],
    )


def _csv(table: Table) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(table.columns)
    writer.writerows(table.rows)
    return text.getvalue().encode()


def sweep_plots(result: SweepResult) -> list[Picture]:
    """Return how the search went, and the objective over each parameter."""
    sweep = result.sweep
    label = sweep.objective.replace("_", " ").replace("auroc", "AUROC")
    history = optimisation_history([t.objective for t in result.trials], label, sweep.maximised)
    shown = [_slice(path, space, result) for path, space in sweep.space.items()]
    return [
        Picture(history, "Optimisation history"),
        Picture(slices(shown, label, best=result.trials[result.best].number), "Slices"),
    ]


def _slice(path: str, space: Space, result: SweepResult) -> Slice:
    done = [t for t in result.trials if t.objective is not None]
    values = [t.values[path] for t in done]
    if isinstance(space, ChoicesConfig):
        values = [space.choices.index(value) for value in values]
    return Slice(
        name=path,
        numbers=[t.number for t in done],
        values=values,
        objectives=[t.objective or 0.0 for t in done],
        log=not isinstance(space, ChoicesConfig) and space.log,
        labels=space.labels if isinstance(space, ChoicesConfig) else (),
    )


def describe(trial: Trial, sweep: Sweep) -> str:
    """Return a trial in one line."""
    values = [f"{path} {shown(value)}" for path, value in trial.values.items()]
    outcome = f"failed: {trial.failure}"
    if trial.objective is not None:
        outcome = f"{sweep.objective} {trial.objective:.4f}"
    return "  ".join([f"trial {trial.number + 1} of {sweep.trials}", *values, outcome])


def shown(value: Any) -> str:
    """Return a parameter's value for people."""
    return f"{value:.4g}" if isinstance(value, float) else json.dumps(value)

"""Hyper-parameter search: trial federations, judged on the hospitals' validation rows alone."""

from __future__ import annotations

import hashlib
import json
import tempfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, create_trial

from fl_assets.config import ConfigFileError, StrictModel
from fl_assets.coordinator import documents
from fl_assets.coordinator.preprocessors import load_preprocessors
from fl_assets.coordinator.training import NoSiteReadyError, training_sites, validation_auroc
from fl_assets.federation.job import FederationError, FederationHistory, FederationJob
from fl_assets.federation.recipe import Recipe
from fl_assets.federation.runtimes.inprocess import InProcessRuntime
from fl_assets.federation.sweep import ChoicesConfig, Space, Sweep, SweepError, recipe_text, varied
from fl_assets.learning.metrics import weighted_mean
from fl_assets.settings import Settings
from fl_assets.storage import ObjectNotFoundError, SiteStore

# Of what a sweep computes from the same inputs; part of where its trials are.
_CODE_VERSION = "1"


class Trial(StrictModel):
    """One training of a sweep.

    Attributes:
        number: from 0.
        values: of the recipe's fields, by dotted path.
        objective: None where the training failed.
        failure: why it did.
    """

    number: int
    values: dict[str, Any]
    objective: float | None
    failure: str | None = None


class SweepResult(StrictModel):
    """A finished sweep.

    Attributes:
        sweep: what was asked for.
        inputs: hash of sweep, recipe, preprocessors and partitions.
        trials: in order.
        best: number of the best.
        recipe: the best, as the text of a recipe file.
    """

    sweep: Sweep
    inputs: str
    trials: tuple[Trial, ...]
    best: int
    recipe: str

    @property
    def version(self) -> str:
        """Content hash of inputs and trials, 16 hex digits."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]


def search(
    settings: Settings,
    sweep: Sweep,
    base: Recipe,
    *,
    fresh: bool = False,
    observe: Callable[[Trial], None] = lambda _trial: None,
) -> SweepResult:
    """Run the trials of a sweep that are not stored yet.

    The values of trial n follow from the sweep's seed, n and the trials before it. So a sweep that
    was interrupted, or asked for more trials, goes on as if it had never stopped. A trial that
    failed is not stored: the next search tries it again.

    Args:
        settings: consortium and stores.
        sweep: what to vary.
        base: the recipe whose other fields stay.
        fresh: forget the stored trials.
        observe: is told of each trial, also of one that is stored.

    Raises:
        NoSiteReadyError: no hospital has partitions.
        SweepError: every trial failed.
    """
    if not training_sites(settings):
        raise NoSiteReadyError("no hospital has partitions: run `fla demo` first")
    store = settings.coordinator_store()
    inputs = _inputs(settings, sweep, base)
    folder = f"sweeps/{sweep.name}/{inputs}/"
    if fresh:
        for stored in store.list(folder):
            store.delete(stored.key)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    trials: list[Trial] = []
    for number in range(sweep.trials):
        trial = _stored(store, folder, number)
        if trial is None:
            trial = _run(settings, sweep, base, number, _suggest(sweep, trials, number), inputs)
            if trial.objective is not None:
                documents.save(store, f"{folder}{number:05d}.json", trial)
        observe(trial)
        trials.append(trial)
    return _result(sweep, base, inputs, trials)


def _inputs(settings: Settings, sweep: Sweep, base: Recipe) -> str:
    """Hash of all that a trial depends on; the number of trials is no such thing."""
    preprocessors = load_preprocessors(settings.coordinator_store())
    versions = {name: m.version for name, m in sorted(training_sites(settings).items())}
    asked = sweep.model_dump_json(exclude={"description", "trials"})
    parts = [_CODE_VERSION, asked, base.hash, preprocessors.version, versions]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def _stored(store: SiteStore, folder: str, number: int) -> Trial | None:
    try:
        return documents.load(store, f"{folder}{number:05d}.json", Trial)
    except ObjectNotFoundError:
        return None


def _suggest(sweep: Sweep, before: Sequence[Trial], number: int) -> dict[str, Any]:
    """Return what Optuna would try next; a sampler of its own makes each trial reproducible."""
    space = {path: _distribution(found) for path, found in sweep.space.items()}
    study = optuna.create_study(
        direction="maximize" if sweep.maximised else "minimize",
        sampler=optuna.samplers.TPESampler(seed=zlib.crc32(f"{sweep.seed}/{number}".encode())),
    )
    study.add_trials(_frozen(sweep, space, trial) for trial in before if not trial.failure)
    drawn = study.ask(space).params
    return {path: _decode(sweep.space[path], value) for path, value in drawn.items()}


def _distribution(space: Space) -> BaseDistribution:
    if isinstance(space, ChoicesConfig):
        return CategoricalDistribution(space.labels)
    if space.whole:
        return IntDistribution(int(space.low), int(space.high), space.log, space.step or 1)
    return FloatDistribution(space.low, space.high, space.log)


def _frozen(sweep: Sweep, space: dict[str, BaseDistribution], trial: Trial) -> FrozenTrial:
    values = {path: _encode(sweep.space[path], value) for path, value in trial.values.items()}
    return create_trial(params=values, distributions=space, value=trial.objective)


def _encode(space: Space, value: Any) -> Any:
    return json.dumps(value) if isinstance(space, ChoicesConfig) else value


def _decode(space: Space, value: Any) -> Any:
    return json.loads(value) if isinstance(space, ChoicesConfig) else value


def _run(
    settings: Settings, sweep: Sweep, base: Recipe, number: int, values: dict[str, Any], inputs: str
) -> Trial:
    """Train one trial in this process; a recipe that cannot be or diverges is a failed trial."""
    try:
        history = _train(settings, varied(base, values, f"sweep {sweep.name}"), number, inputs)
    except (ConfigFileError, FederationError) as error:
        return Trial(number=number, values=values, objective=None, failure=str(error))
    found = _objective(sweep, history)
    missing = None if found is not None else f"no hospital could compute {sweep.objective}"
    return Trial(number=number, values=values, objective=found, failure=missing)


def _train(settings: Settings, recipe: Recipe, number: int, inputs: str) -> FederationHistory:
    preprocessors = load_preprocessors(settings.coordinator_store())
    # Nobody wants the models of a search, so they do not outlive it.
    with tempfile.TemporaryDirectory() as scratch:
        sites = training_sites(settings)
        job = FederationJob(
            run=f"sweep-{inputs}-{number:05d}",
            recipe=recipe,
            preprocessor=preprocessors.of(recipe),
            sites={name: settings.site_uri(name) for name in sites},
            access={name: settings.site_access(name) for name in sites},
            budgets={name: settings.consortium.budget(name) for name in sites},
            output=Path(scratch).as_uri(),
            resume=False,
        )
        return InProcessRuntime().run(job).history


def _objective(sweep: Sweep, history: FederationHistory) -> float | None:
    if sweep.objective == "validation_auroc":
        return validation_auroc(history)
    return weighted_mean([(r.loss, r.examples) for r in history.final.values()])


def _result(sweep: Sweep, base: Recipe, inputs: str, trials: Sequence[Trial]) -> SweepResult:
    done = [trial for trial in trials if trial.objective is not None]
    if not done:
        raise SweepError(
            f"every trial of sweep {sweep.name} failed, the first one: {trials[0].failure}"
        )
    sign = 1 if sweep.maximised else -1
    # Of equal ones the first.
    best = max(done, key=lambda t: (sign * (t.objective or 0.0), -t.number))
    description = (
        f"Best of {len(done)} trials of sweep {sweep.name}: {sweep.objective} "
        f"{best.objective:.4f}. Starts from {base.name}."
    )
    recipe = varied(base, best.values, f"sweep {sweep.name}")
    return SweepResult(
        sweep=sweep,
        inputs=inputs,
        trials=tuple(trials),
        best=best.number,
        recipe=recipe_text(recipe, description),
    )

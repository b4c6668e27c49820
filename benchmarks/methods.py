"""Every method of the comparison on one fold, all through the product's own code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from benchmarks.setting import Parts, Setting, unlimited, write_sites
from fl_assets.cohorts.spec import CohortSpec, MissingIndicator
from fl_assets.coordinator.training import operating_threshold
from fl_assets.federation.job import FederationJob
from fl_assets.federation.recipe import Recipe
from fl_assets.federation.runtimes.inprocess import InProcessRuntime
from fl_assets.learning import baselines, metrics
from fl_assets.learning.baselines import Baseline
from fl_assets.learning.features import Preprocessor
from fl_assets.learning.metrics import Metric
from fl_assets.learning.models import model_for
from fl_assets.learning.neural_baseline import neural_network
from fl_assets.learning.training import predict
from fl_assets.site.evaluation import fit_local, labels
from fl_assets.site.partitions import load_manifest, load_part
from fl_assets.site.pooling import pooled
from fl_assets.storage import SiteStore

MAJORITY, AGE, BOOSTING = "majority class", "age only", "gradient boosting"
CENTRAL, CENTRAL_MLP = "centralised LR", "centralised MLP"
FEDAVG, FEDAVG_MLP, FEDPROX = "fedavg-lr", "fedavg-mlp", "fedprox-mlp"
NO_FLAG = ", no flag"
"""Of a method that is not told whether a value is missing, which betrays strokes in this file."""

Scores = NDArray[np.float64]
Figures = dict[str, float | None]


@dataclass(frozen=True)
class FoldTask:
    """One fold to work on: the part of every row, and the seed of what is random in fitting."""

    setting: Setting
    parts: Parts
    recipes: dict[str, Recipe]
    seed: int


@dataclass(frozen=True)
class FoldResult:
    """What every method reached on a fold.

    Attributes:
        pooled: figures on all test rows, by method.
        own: AUROC on each hospital's test rows, by method and hospital.
        positives: in each hospital's test rows.
        test_to_train: rows tested over rows trained on.
    """

    pooled: dict[str, Figures]
    own: dict[str, dict[str, float | None]]
    positives: dict[str, int]
    test_to_train: float


@dataclass(frozen=True)
class _Model:
    """A fitted method: scores of raw rows, and the operating threshold chosen on validation."""

    score: Callable[[pd.DataFrame], Scores]
    threshold: float


class _Fold:
    def __init__(self, task: FoldTask, home: Path) -> None:
        self.task, self.home = task, home
        self.stores = write_sites(task.setting, task.parts, home / "sites")
        spec = task.setting.spec
        self.public = Preprocessor.public(spec)
        self.no_flag = Preprocessor.public(_without_indicators(spec))
        self.train, self.validation, self.test = (
            pooled(task.setting.consortium, self.stores, part)
            for part in ("train", "validation", "test")
        )

    def models(self) -> Iterator[tuple[str, _Model]]:
        """Fit every method; the cheap ones first."""
        spec, seed = self.task.setting.spec, self.task.seed
        age = self.public.feature_names.index(spec.age_column)
        fits: dict[str, Callable[..., Baseline]] = {
            MAJORITY: baselines.majority_class,
            AGE: partial(baselines.age_only, column=age),
            CENTRAL: baselines.logistic_regression,
            BOOSTING: baselines.gradient_boosting,
            CENTRAL_MLP: partial(neural_network, prevalence=spec.label.prevalence),
        }
        for name, fit in fits.items():
            yield name, self._centralised(fit, self.public)
            if name == CENTRAL:
                yield name + NO_FLAG, self._centralised(fit, self.no_flag)
        for name, store in self.stores.items():
            rows = load_part(store, load_manifest(store), "validation")
            alone = fit_local(store, self.public, seed)
            if alone is not None:
                yield f"{name} alone", self._baseline(alone, self.public, rows)
        for name, recipe in self.task.recipes.items():
            yield name, self._federated(recipe, self.public)
            if name == FEDAVG:
                yield name + NO_FLAG, self._federated(recipe, self.no_flag)

    def _centralised(self, fit: Callable[..., Baseline], preprocessor: Preprocessor) -> _Model:
        spec = preprocessor.cohort
        fitted = fit(
            preprocessor.transform(self.train),
            labels(self.train, spec),
            preprocessor.transform(self.validation),
            labels(self.validation, spec),
            self.task.seed,
        )
        return self._baseline(fitted, preprocessor, self.validation)

    def _baseline(
        self, fitted: Baseline, preprocessor: Preprocessor, validation: pd.DataFrame
    ) -> _Model:
        def score(rows: pd.DataFrame) -> Scores:
            return fitted.scores(preprocessor.transform(rows))

        chosen = metrics.threshold_at_specificity(
            labels(validation, preprocessor.cohort), score(validation), 0.8
        )
        return _Model(score, 0.5 if chosen is None else chosen)

    def _federated(self, recipe: Recipe, preprocessor: Preprocessor) -> _Model:
        job = FederationJob(
            run=f"{recipe.name}-{preprocessor.version}",
            recipe=recipe,
            preprocessor=preprocessor,
            sites={name: store.uri for name, store in self.stores.items()},
            output=(self.home / "coordinator").as_uri(),
            budgets=unlimited(self.stores),
        )
        result = InProcessRuntime().run(job)
        model = model_for(recipe.model, preprocessor, recipe.seed)
        model.load_state_dict({k: torch.from_numpy(v) for k, v in result.weights.items()})

        def score(rows: pd.DataFrame) -> Scores:
            return predict(model, torch.from_numpy(preprocessor.transform(rows)))

        return _Model(
            score, operating_threshold(result.history, preprocessor.cohort.label.prevalence)
        )


def _without_indicators(spec: CohortSpec) -> CohortSpec:
    kept = tuple(d for d in spec.derived if not isinstance(d, MissingIndicator))
    return spec.model_copy(update={"derived": kept})


def run_fold(task: FoldTask) -> FoldResult:
    """Fit every method on a fold's training rows and evaluate it on the fold's test rows."""
    with TemporaryDirectory() as home:
        fold = _Fold(task, Path(home))
        spec = task.setting.spec
        own = {name: _test_rows(store) for name, store in fold.stores.items()}
        pooled_figures, own_figures = {}, {}
        for name, model in fold.models():
            scores = model.score(fold.test)
            pooled_figures[name] = _figures(labels(fold.test, spec), scores, model.threshold)
            own_figures[name] = {
                hospital: metrics.auroc(labels(rows, spec), model.score(rows))
                for hospital, rows in own.items()
            }
        return FoldResult(
            pooled=pooled_figures,
            own=own_figures,
            positives={name: int(labels(rows, spec).sum()) for name, rows in own.items()},
            test_to_train=len(fold.test) / len(fold.train),
        )


def _test_rows(store: SiteStore) -> pd.DataFrame:
    return load_part(store, load_manifest(store), "test")


def _figures(y: Scores, scores: Scores, threshold: float) -> Figures:
    return {
        Metric.AUROC: metrics.auroc(y, scores),
        Metric.AUPRC: metrics.auprc(y, scores),
        Metric.SENSITIVITY_AT_80_SPECIFICITY: metrics.sensitivity_at_specificity(y, scores, 0.8),
        Metric.BRIER: metrics.brier(y, scores),
        Metric.ECE: metrics.ece(y, scores),
        Metric.ACCURACY: metrics.confusion(y, scores, threshold).accuracy,
        Metric.MAJORITY_RATE: metrics.majority_rate(y),
    }

"""Every recipe on one fold, beside the references, as scores per hospital."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from benchmarks.methods import AGE, CENTRAL, MAJORITY, FoldTask
from benchmarks.setting import unlimited, write_sites
from fl_assets.coordinator.training import operating_threshold
from fl_assets.federation.job import FederationJob
from fl_assets.federation.recipe import Recipe
from fl_assets.federation.runtimes.inprocess import InProcessRuntime
from fl_assets.learning import baselines, metrics
from fl_assets.learning.baselines import Baseline
from fl_assets.learning.features import Preprocessor
from fl_assets.learning.models import model_for
from fl_assets.learning.training import predict
from fl_assets.learning.weights import Weights, weights_from_bytes
from fl_assets.site.evaluation import labels
from fl_assets.site.partitions import load_manifest, load_part
from fl_assets.site.pooling import pooled

PERSONAL = ", own models"
"""Of a recipe whose hospitals each use the model that they kept for themselves."""

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class FoldScores:
    """What every method says of a fold's test rows.

    Attributes:
        labels: [n] by hospital.
        scores: [n] by method and hospital.
        thresholds: chosen on validation rows for 80 % specificity, by method.
        test_to_train: rows tested over rows trained on.
    """

    labels: dict[str, Scores]
    scores: dict[str, dict[str, Scores]]
    thresholds: dict[str, float]
    test_to_train: float


@dataclass(frozen=True)
class NoiseDraw:
    """One draw of a private recipe's noise: its number, and the seed that it comes from."""

    number: int
    seed: int


class Fold:
    """A fold's hospitals in real stores, and what each method says of their test rows.

    Attributes:
        scores, thresholds: as of :class:`FoldScores`, so far.
    """

    def __init__(self, task: FoldTask, home: Path) -> None:
        self.task, self.home = task, home
        self.stores = write_sites(task.setting, task.parts, home / "sites")
        self.public = Preprocessor.public(task.setting.spec)
        self.train, self.validation = (
            pooled(task.setting.consortium, self.stores, part) for part in ("train", "validation")
        )
        self.test = {
            name: load_part(store, load_manifest(store), "test")
            for name, store in self.stores.items()
        }
        self.scores: dict[str, dict[str, Scores]] = {}
        self.thresholds: dict[str, float] = {}

    def reference(self, name: str, fit: Callable[..., Baseline]) -> None:
        """Fit a baseline on the pooled rows and score with it."""
        spec = self.task.setting.spec
        X_val, y_val = self.public.transform(self.validation), labels(self.validation, spec)
        fitted = fit(
            self.public.transform(self.train),
            labels(self.train, spec),
            X_val,
            y_val,
            self.task.seed,
        )
        chosen = metrics.threshold_at_specificity(y_val, fitted.scores(X_val), 0.8)
        self.thresholds[name] = 0.5 if chosen is None else chosen
        self.scores[name] = {
            hospital: fitted.scores(self.public.transform(rows))
            for hospital, rows in self.test.items()
        }

    def recipe(self, recipe: Recipe, draw: NoiseDraw | None = None) -> None:
        """Train a recipe and score with its model.

        Args:
            recipe: what to train.
            draw: of the noise of a private one, which is a method of its own then.
        """
        name = recipe.name if draw is None else drawn(recipe.name, draw.number)
        preprocessor = self.public.weighted(recipe.features)
        job = FederationJob(
            run=name,
            recipe=recipe,
            preprocessor=preprocessor,
            sites={hospital: store.uri for hospital, store in self.stores.items()},
            output=(self.home / "coordinator").as_uri(),
            # Every draw is charged like a training of its own.
            budgets=unlimited(self.stores),
            noise_seed=None if draw is None else draw.seed,
        )
        result = InProcessRuntime().run(job)
        threshold = operating_threshold(result.history, self.public.cohort.label.prevalence)

        def score(weights: Weights, rows: pd.DataFrame) -> Scores:
            model = model_for(recipe.model, preprocessor, recipe.seed)
            model.load_state_dict({k: torch.from_numpy(v) for k, v in weights.items()})
            return predict(model, torch.from_numpy(preprocessor.transform(rows)))

        self.thresholds[name] = threshold
        self.scores[name] = {
            hospital: score(result.weights, rows) for hospital, rows in self.test.items()
        }
        if recipe.personalisation is not None:
            own = name + PERSONAL
            self.thresholds[own] = threshold
            self.scores[own] = {
                hospital: score(weights_from_bytes(store.get(f"personal/{job.run}.npz")), rows)
                for (hospital, store), rows in zip(
                    self.stores.items(), self.test.values(), strict=True
                )
            }

    def found(self) -> FoldScores:
        """Return what there is."""
        tested = sum(len(rows) for rows in self.test.values())
        return FoldScores(
            labels={name: labels(rows, self.task.setting.spec) for name, rows in self.test.items()},
            scores=self.scores,
            thresholds=self.thresholds,
            test_to_train=tested / len(self.train),
        )


def drawn(recipe: str, draw: int) -> str:
    """Return the name of one draw of a private recipe's noise."""
    return f"{recipe}-draw-{draw}"


def score_recipes(task: FoldTask) -> FoldScores:
    """Fit the references and every recipe on a fold's training rows; score its test rows."""
    with TemporaryDirectory() as home:
        fold = Fold(task, Path(home))
        spec = task.setting.spec
        age = fold.public.feature_names.index(spec.age_column)
        fold.reference(MAJORITY, baselines.majority_class)
        fold.reference(AGE, partial(baselines.age_only, column=age))
        fold.reference(CENTRAL, baselines.logistic_regression)
        for recipe in task.recipes.values():
            fold.recipe(recipe)
        return fold.found()

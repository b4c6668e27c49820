"""Demo only: what one place with all the rows could reach, the upper bound of a federation."""

from __future__ import annotations

from functools import partial
from typing import Any

from fl_assets.config import StrictModel
from fl_assets.coordinator import documents
from fl_assets.coordinator.evaluation import ModelEvaluation, evaluate_simulated
from fl_assets.coordinator.training import ready_sites
from fl_assets.learning import baselines
from fl_assets.learning.features import Preprocessor
from fl_assets.learning.metrics import threshold_at_specificity
from fl_assets.learning.neural_baseline import neural_network
from fl_assets.settings import Settings
from fl_assets.site.evaluation import labels
from fl_assets.site.pooling import pooled, simulated_stores
from fl_assets.storage import SiteStore

KEY = "baselines/centralised.json"
SEED = 0


class CentralisedBaseline(StrictModel):
    """A baseline on pooled rows.

    Attributes:
        params: what tuning on validation chose.
        tried: configurations compared.
        evaluation: on the untouched test rows.
    """

    params: dict[str, Any]
    tried: int
    evaluation: ModelEvaluation

    @property
    def auroc(self) -> float | None:
        """On the pooled test rows; None where they are of one class."""
        pooled = self.evaluation.pooled
        return None if pooled is None else pooled.auroc


class CentralisedBaselines(StrictModel):
    """All of them, by name, from the emptiest to the richest."""

    models: dict[str, CentralisedBaseline]


def fit_centralised(settings: Settings) -> CentralisedBaselines:
    """Fit every baseline on the pooled training rows and store how they do on the test rows.

    Raises:
        NotSimulatedError: the consortium is real.
    """
    stores = simulated_stores(settings, ready_sites(settings))
    preprocessor = Preprocessor.public(settings.cohort)
    spec = settings.cohort
    train, validation = (
        pooled(settings.consortium, stores, part) for part in ("train", "validation")
    )
    X, X_val = preprocessor.transform(train), preprocessor.transform(validation)
    y, y_val = labels(train, spec), labels(validation, spec)
    age = preprocessor.feature_names.index(spec.age_column)
    fits = (
        baselines.majority_class,
        partial(baselines.age_only, column=age),
        baselines.logistic_regression,
        baselines.gradient_boosting,
        partial(neural_network, prevalence=spec.label.prevalence),
    )
    models = {}
    for fit in fits:
        fitted = fit(X, y, X_val, y_val, SEED)
        threshold = threshold_at_specificity(y_val, fitted.scores(X_val), 0.8)
        evaluation = evaluate_simulated(
            settings,
            fitted.name,
            preprocessor,
            fitted.scores,
            threshold=threshold,
            run="centralized_baseline",
        )
        models[fitted.name] = CentralisedBaseline(
            params=fitted.params, tried=fitted.tried, evaluation=evaluation
        )
    found = CentralisedBaselines(models=models)
    documents.save(settings.coordinator_store(), KEY, found)
    return found


def load_centralised(store: SiteStore) -> CentralisedBaselines:
    """Return the stored baselines.

    Raises:
        ObjectNotFoundError: they were never fitted.
    """
    return documents.load(store, KEY, CentralisedBaselines)

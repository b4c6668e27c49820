"""Scikit-learn baselines, each tuned on validation data alone and fitted on training data alone.

The configuration of the lowest log loss wins: a proper score is steadier on few positives than
the AUROC and keeps the probabilities honest. Nothing is refitted on validation rows, so that every
row of a comparison has learned from the same people.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fl_assets.learning.inputs import (
    Array,
    EmptyInputError,
    Floats,
    LengthMismatchError,
    checked_labels,
)
from fl_assets.learning.metrics import log_loss

MINIMUM_POSITIVES = 5
"""With fewer of either class, choosing by their loss is choosing by noise."""

FOLDS = MINIMUM_POSITIVES
"""Of the cross-validation; more would leave a fold without the smaller class."""

# Each grid starts with the configuration used where nothing can be tuned.
C_GRID = (1.0, 0.05, 0.1, 0.2, 0.4)
DEPTHS = (1, 2, 3)
LEARNING_RATES = (0.1, 0.05)
TREES = (50, 25, 100)

Params = dict[str, Any]
Predict = Callable[[Array], Floats]
Candidates = Callable[[Array, Array, int], Iterator[tuple[Params, Predict]]]


@dataclass(frozen=True)
class Baseline:
    """A fitted baseline.

    Attributes:
        name: row of the comparison.
        params: the chosen configuration; ``tuned_on``, what it was chosen by; ``why`` where that
            is not validation. JSON-able.
        tried: configurations compared; 1 where nothing was tuned.
        predict: from features [n, k] to the probability of label 1, float64 of shape [n].
    """

    name: str
    params: Params
    tried: int
    predict: Predict = field(repr=False)

    def scores(self, X: Array) -> Floats:
        """Return the probability of label 1 for features [n, k], float64 of shape [n]."""
        return self.predict(np.asarray(X))


def majority_class(
    X_train: Array,
    y_train: Array,
    X_val: Array,
    y_val: Array,
    seed: int,  # noqa: ARG001 - one signature for all
) -> Baseline:
    """Give everyone the same score: AUROC one half, accuracy the rate of the more frequent class.

    The score is ``(positives + 1) / (rows + 2)``, Laplace's rule of succession: the training rate,
    but never a certainty, whose log loss would be without bound. Raises as
    :func:`logistic_regression`.
    """
    _check(X_train, y_train, X_val, y_val)
    return _constant("majority_class", y_train, "it has no parameters")


def age_only(
    X_train: Array, y_train: Array, X_val: Array, y_val: Array, seed: int, *, column: int
) -> Baseline:
    """:func:`logistic_regression` on one column, given by its index: the bar for all the others."""
    alone = logistic_regression(X_train[:, [column]], y_train, X_val[:, [column]], y_val, seed)
    return Baseline(
        name="age_only",
        params={**alone.params, "column": column},
        tried=alone.tried,
        predict=lambda X: alone.scores(X[:, [column]]),
    )


def logistic_regression(
    X_train: Array, y_train: Array, X_val: Array, y_val: Array, seed: int
) -> Baseline:
    """L1-penalised logistic regression on columns standardised by the training rows.

    The lasso (Tibshirani 1996, section 2; for this likelihood Hastie, Tibshirani & Friedman 2009,
    section 4.4.4), because most columns of a clinical table tell little: on the stroke data an L2
    penalty keeps them all and costs 0.002 in AUROC, and 0.01 to 0.02 at a hospital with few
    positives. It degenerates to the unpenalised fit for a large C.

    Args:
        X_train, X_val: finite features, [n, k] and [m, k]; m may be 0.
        y_train, y_val: 0/1, [n] and [m].
        seed: of the solver's order of rows and of the cross-validation folds.

    Returns:
        The tuned model. With fewer than ``MINIMUM_POSITIVES`` of either class in validation the
        tuning moves into the training rows (``FOLDS``-fold cross-validation), with too few there
        as well the default stands, and with a single class there the model is a constant: a
        hospital that cannot train one still has its row. ``params`` say which it was.

    Raises:
        EmptyInputError: no training rows.
        LengthMismatchError: not one label per row.
        BadLabelError: a label other than 0 and 1.
    """
    return _tuned("logistic_regression", _logistic, X_train, y_train, X_val, y_val, seed)


def gradient_boosting(
    X_train: Array, y_train: Array, X_val: Array, y_val: Array, seed: int
) -> Baseline:
    """Boosted shallow trees, Friedman 2001; arguments, fallbacks, errors: logistic regression's.

    Scikit-learn's exact variant, because it runs in one thread: the histogram variant's threads
    wait for each other on busy cores and are slower on a few thousand rows.
    """
    return _tuned("gradient_boosting", _boosted, X_train, y_train, X_val, y_val, seed)


def _logistic(X: Array, y: Array, seed: int) -> Iterator[tuple[Params, Predict]]:
    for c in C_GRID:
        # Liblinear converges in milliseconds, also on a column with a single entry, where saga
        # does not in thousands of passes. It penalises the intercept, by this scaling hardly.
        lasso = LogisticRegression(
            C=c,
            l1_ratio=1,
            solver="liblinear",
            intercept_scaling=100,
            max_iter=2000,
            random_state=seed,
        )
        model = make_pipeline(StandardScaler(), lasso).fit(X, y)
        yield {"C": c}, partial(_positive_column, model.predict_proba)


def _boosted(X: Array, y: Array, seed: int) -> Iterator[tuple[Params, Predict]]:
    for depth in DEPTHS:
        for rate in LEARNING_RATES:
            model = GradientBoostingClassifier(
                max_depth=depth,
                learning_rate=rate,
                n_estimators=max(TREES),
                min_samples_leaf=20,
                random_state=seed,
            ).fit(X, y)
            for trees in TREES:
                params = {"max_depth": depth, "learning_rate": rate, "trees": trees}
                yield params, partial(_positive_column, partial(_after, model, trees))


def _after(model: GradientBoostingClassifier, trees: int, X: Array) -> Array:
    """Class probabilities after that many trees: a smaller model is a prefix of a larger one."""
    staged: Array = next(islice(model.staged_predict_proba(X), trees - 1, None))
    return staged


def _positive_column(predict_proba: Callable[[Array], Array], X: Array) -> Floats:
    return np.asarray(predict_proba(X)[:, 1], dtype=np.float64)


def _constant(name: str, y: Array, why: str) -> Baseline:
    rate = float((np.count_nonzero(y) + 1) / (len(y) + 2))
    params = {"constant": rate, "tuned_on": "nothing", "why": why}
    return Baseline(name, params, 1, lambda X: np.full(len(X), rate))


def _tuned(
    name: str,
    candidates: Candidates,
    X_train: Array,
    y_train: Array,
    X_val: Array,
    y_val: Array,
    seed: int,
) -> Baseline:
    _check(X_train, y_train, X_val, y_val)
    train, val = _smaller_class(y_train), _smaller_class(y_val)
    if not train:
        return _constant(name, y_train, "training rows are all of one class")
    few = f"the smaller class has {val} rows in validation"
    if val >= MINIMUM_POSITIVES:
        tuning = {"tuned_on": "validation"}
        fitted = list(candidates(X_train, y_train, seed))
        losses = [log_loss(y_val, predict(X_val)) for _, predict in fitted]
    elif train >= MINIMUM_POSITIVES:
        tuning = {"tuned_on": "cross-validation in training", "why": few}
        fitted = list(candidates(X_train, y_train, seed))
        losses = _cross_validated(candidates, X_train, y_train, seed)
    else:
        tuning = {"tuned_on": "nothing", "why": f"{few} and {train} in training"}
        fitted, losses = [next(candidates(X_train, y_train, seed))], [0.0]
    params, predict = fitted[int(np.argmin(losses))]
    return Baseline(name, {**params, **tuning}, len(losses), predict)


def _cross_validated(candidates: Candidates, X: Array, y: Array, seed: int) -> list[float]:
    """Out-of-fold log loss of each configuration."""
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(X, y)
    per_fold = [
        [
            len(held_out) * log_loss(y[held_out], predict(X[held_out]))
            for _, predict in candidates(X[kept], y[kept], seed)
        ]
        for kept, held_out in folds
    ]
    return [sum(losses) / len(y) for losses in zip(*per_fold, strict=True)]


def _smaller_class(y: Array) -> int:
    positives = np.count_nonzero(y)
    return int(min(positives, len(y) - positives))


def _check(X_train: Array, y_train: Array, X_val: Array, y_val: Array) -> None:
    if not len(y_train):
        raise EmptyInputError("the training set")
    for part, X, y in (("train", X_train, y_train), ("val", X_val, y_val)):
        if X.ndim != 2 or y.shape != X.shape[:1]:
            raise LengthMismatchError(f"X_{part}", X.shape, f"y_{part}", y.shape)
        if len(y):
            checked_labels(y)

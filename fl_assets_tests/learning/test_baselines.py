import json

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler

from fl_assets.learning import baselines
from fl_assets.learning.baselines import (
    age_only,
    gradient_boosting,
    logistic_regression,
    majority_class,
)
from fl_assets.learning.inputs import BadLabelError, EmptyInputError, LengthMismatchError
from fl_assets.learning.metrics import auroc


def patients(n, seed, columns=5, offset=-2.0):
    """A linear risk in the first two columns; column 0, the stronger one, plays the age."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, columns)) * np.arange(1, columns + 1)
    risk = offset + 1.5 * X[:, 0] + 0.4 * X[:, 1]
    return X, (rng.random(n) < 1 / (1 + np.exp(-risk))).astype(np.int8)


def age(*data):
    return age_only(*data, column=0)


TUNED = (logistic_regression, gradient_boosting, age)
ALL = (majority_class, *TUNED)


@pytest.fixture(scope="module")
def data():
    return (*patients(600, 0), *patients(250, 1))


@pytest.fixture(scope="module")
def unseen():
    return patients(3000, 2)


@pytest.mark.parametrize("fit", ALL)
def test_scores_are_probabilities_and_repeat_themselves(fit, data, unseen):
    first, second = fit(*data, 7), fit(*data, 7)
    scores = first.scores(unseen[0])
    assert scores.dtype == np.float64
    assert scores.shape == (3000,)
    assert scores.min() >= 0
    assert scores.max() <= 1
    np.testing.assert_array_equal(scores, second.scores(unseen[0]))
    assert first.params == json.loads(json.dumps(first.params)) == second.params


def test_the_order_of_the_baselines_is_the_one_of_what_they_know(data, unseen):
    X, y = unseen
    area = {fit: auroc(y, fit(*data, 0).scores(X)) for fit in ALL}
    assert area[majority_class] == 0.5
    assert 0.75 < area[age] < area[logistic_regression]
    assert area[age] < area[gradient_boosting]


def test_logistic_regression_is_the_best_of_its_grid_on_validation(data, unseen):
    X, y, X_val, y_val = data
    found = logistic_regression(*data, 0)
    scaler = StandardScaler().fit(X)
    # Another algorithm for the same optimum, which leaves the intercept unpenalised.
    lasso = {"l1_ratio": 1, "solver": "saga", "max_iter": 20_000, "tol": 1e-7}
    models = {
        c: LogisticRegression(C=c, **lasso).fit(scaler.transform(X), y) for c in baselines.C_GRID
    }
    losses = {
        c: log_loss(y_val, model.predict_proba(scaler.transform(X_val))[:, 1])
        for c, model in models.items()
    }
    best = min(losses, key=losses.get)
    assert found.params == {"C": best, "tuned_on": "validation"}
    assert found.tried == len(baselines.C_GRID)
    expected = models[best].predict_proba(scaler.transform(unseen[0]))[:, 1]
    np.testing.assert_allclose(found.scores(unseen[0]), expected, atol=1e-3)


def test_logistic_regression_leaves_out_columns_that_tell_nothing():
    parts = []
    for seed in (0, 1):
        X, y = patients(600, seed, columns=2)
        noise = np.random.default_rng(seed + 10).normal(size=(600, 20))
        parts += [np.column_stack([X, noise]), y]
    found = logistic_regression(*parts, 0)
    X = parts[0]
    moved = [np.where(np.arange(22) == column, X + 1, X) for column in range(22)]
    used = [not np.array_equal(found.scores(each), found.scores(X)) for each in moved]
    assert used[:2] == [True, True]
    assert sum(used[2:]) <= 10


def test_validation_rows_choose_but_do_not_train(data, unseen):
    X, y, X_val, _ = data
    chosen = {
        logistic_regression(X, y, *patients(250, seed), 0).params["C"] for seed in range(10, 20)
    }
    assert len(chosen) > 1
    # A second validation set that chooses the same configuration leaves the model as it was.
    first = logistic_regression(*data, 0)
    other = logistic_regression(X, y, np.repeat(X_val, 2, axis=0), np.repeat(data[3], 2), 0)
    np.testing.assert_array_equal(first.scores(unseen[0]), other.scores(unseen[0]))


def test_boosting_of_k_trees_is_a_prefix_of_a_longer_one(data, unseen):
    from sklearn.ensemble import GradientBoostingClassifier

    found = gradient_boosting(*data, 3)
    alone = GradientBoostingClassifier(
        max_depth=found.params["max_depth"],
        learning_rate=found.params["learning_rate"],
        n_estimators=found.params["trees"],
        min_samples_leaf=20,
        random_state=3,
    ).fit(*data[:2])
    np.testing.assert_allclose(
        found.scores(unseen[0]), alone.predict_proba(unseen[0])[:, 1], atol=1e-12
    )


def test_age_only_looks_at_its_column_alone(data, unseen):
    X, _ = unseen
    found = age_only(*data, 0, column=0)
    shuffled = X.copy()
    shuffled[:, 1:] = 99
    np.testing.assert_array_equal(found.scores(X), found.scores(shuffled))
    assert found.params["column"] == 0
    assert not np.array_equal(found.scores(X), age_only(*data, 0, column=1).scores(X))


@pytest.mark.parametrize("fit", TUNED)
def test_few_validation_positives_move_the_tuning_into_training(fit, data, unseen):
    X_val, y_val = data[2][data[3] == 0], data[3][data[3] == 0]
    found = fit(*data[:2], X_val, y_val, 0)
    assert found.params["tuned_on"] == "cross-validation in training"
    assert "0 rows in validation" in found.params["why"]
    assert found.tried > 1
    assert auroc(unseen[1], found.scores(unseen[0])) > 0.75


def test_cross_validation_does_not_look_at_validation(data):
    X, y, X_val, y_val = data
    four = np.concatenate([np.flatnonzero(y_val)[:4], np.flatnonzero(y_val == 0)])
    with_four = logistic_regression(X, y, X_val[four], y_val[four], 0)
    without = logistic_regression(X, y, X_val[:0], y_val[:0], 0)
    assert with_four.params["C"] == without.params["C"]
    np.testing.assert_array_equal(with_four.scores(X), without.scores(X))


@pytest.mark.parametrize("fit", TUNED)
def test_with_too_few_to_tune_on_the_default_stands(fit, data):
    X, y, X_val, y_val = data
    kept = np.concatenate([np.flatnonzero(y)[:3], np.flatnonzero(y == 0)])
    found = fit(X[kept], y[kept], X_val[:0], y_val[:0], 0)
    assert found.params["tuned_on"] == "nothing"
    assert found.tried == 1
    assert len(np.unique(found.scores(X))) > 1


@pytest.mark.parametrize("fit", ALL)
@pytest.mark.parametrize(("label", "expected"), [(0, 1 / 42), (1, 41 / 42)])
def test_a_hospital_of_one_class_still_has_its_row(fit, label, expected, data):
    X = data[0][:40]
    found = fit(X, np.full(40, label), *data[2:], 0)
    assert found.scores(X) == pytest.approx(np.full(40, expected))
    assert found.params["constant"] == pytest.approx(expected)
    assert found.params["why"]


def test_the_majority_class_scores_the_training_rate(data):
    X, y, _, _ = data
    assert majority_class(*data, 0).scores(X[:1]) == pytest.approx(y.mean(), abs=2e-3)


@pytest.mark.parametrize("fit", ALL)
def test_bad_data_is_refused(fit, data):
    X, y, X_val, y_val = data
    with pytest.raises(EmptyInputError):
        fit(X[:0], y[:0], X_val, y_val, 0)
    with pytest.raises(LengthMismatchError, match="X_train"):
        fit(X, y[:-1], X_val, y_val, 0)
    with pytest.raises(LengthMismatchError, match="X_val"):
        fit(X, y, X_val[:-1], y_val, 0)
    with pytest.raises(BadLabelError):
        fit(X, y + 1, X_val, y_val, 0)

"""Shadow models: the recipe's own training on half of the rows, and on no other row."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from fl_assets.cohorts.spec import CohortSpec
from fl_assets.learning.configs import (
    BCEConfig,
    LocalTraining,
    LogisticRegressionConfig,
    MLPConfig,
    OptimizerConfig,
)
from fl_assets.learning.features import Preprocessor
from fl_assets.learning.losses import build_objective
from fl_assets.learning.models import model_for
from fl_assets.learning.training import derive_seed, train_epochs
from fl_assets.privacy.configs import PrivacyConfig
from fl_assets.site.evaluation import labels
from fl_assets.site.shadows import ShadowPlan, ShadowTraining
from fl_assets.site.training import Features, copy_of

LINEAR = LocalTraining(
    model=LogisticRegressionConfig(),
    loss=BCEConfig(),
    optimizer=OptimizerConfig(lr=0.05, momentum=0.9),
    epochs=2,
    batch_size=32,
    proximal_mu=0.1,
    seed=3,
)
ROWS = 200


@pytest.fixture(scope="session")
def preprocessor(stroke: CohortSpec) -> Preprocessor:
    return Preprocessor.public(stroke)


@pytest.fixture
def rows(patients: pd.DataFrame, preprocessor: Preprocessor, stroke: CohortSpec) -> Features:
    frame = patients.head(ROWS)
    y = labels(frame, stroke).astype(np.float32)
    return Features(torch.from_numpy(preprocessor.transform(frame)), torch.from_numpy(y))


def weights(plan: ShadowPlan, preprocessor: Preprocessor, rows: Features) -> list[np.ndarray]:
    half = np.arange(ROWS) % 2 == 0
    model = ShadowTraining(plan, preprocessor).train(rows, half, seed=9)
    return [w.numpy() for w in copy_of(model).values()]


def test_it_is_the_recipes_training_round_by_round(
    rows: Features, preprocessor: Preprocessor
) -> None:
    """Against the sites' own loop, written out; of the last two rounds the mean."""
    plan = ShadowPlan(training=LINEAR, rounds=4, average_rounds=2)
    found = weights(plan, preprocessor, rows)
    model = model_for(LINEAR.model, preprocessor, LINEAR.seed)
    after = []
    for round_ in range(4):
        train_epochs(
            model,
            rows.X[::2],
            rows.y[::2],
            objective=build_objective(LINEAR.loss, preprocessor.cohort.label.prevalence),
            optimizer=LINEAR.optimizer,
            epochs=2,
            batch_size=32,
            seed=derive_seed(9, round_),
            proximal_mu=0.1,
        )
        after.append([w.numpy() for w in copy_of(model).values()])
    for weight, third, fourth in zip(found, after[2], after[3], strict=True):
        np.testing.assert_allclose(weight, (third + fourth) / 2, rtol=1e-6)


def test_a_row_that_is_not_chosen_changes_nothing(
    rows: Features, preprocessor: Preprocessor
) -> None:
    plan = ShadowPlan(training=LINEAR, rounds=2)
    before = weights(plan, preprocessor, rows)
    outside, inside = rows.y.clone(), rows.y.clone()
    outside[1::2] = 1 - outside[1::2]
    inside[::2] = 1 - inside[::2]
    for weight, same in zip(
        before, weights(plan, preprocessor, Features(rows.X, outside)), strict=True
    ):
        np.testing.assert_array_equal(weight, same)
    other = weights(plan, preprocessor, Features(rows.X, inside))
    assert any((weight != w).any() for weight, w in zip(before, other, strict=True))


def test_each_model_knows_its_own_half_best(rows: Features, preprocessor: Preprocessor) -> None:
    over = LINEAR.model_copy(
        update={
            "model": MLPConfig(hidden=(64, 32)),
            "optimizer": OptimizerConfig(kind="adam", lr=5e-3),
            "epochs": 100,
            "proximal_mu": 0.0,
        }
    )
    # Labels at random can only be known by heart.
    noisy = Features(
        rows.X, torch.from_numpy(np.random.default_rng(0).integers(0, 2, ROWS)).float()
    )
    training = ShadowTraining(ShadowPlan(training=over), preprocessor)
    found, inside = training.confidences(noisy, 4, seed=1)
    assert found.shape == inside.shape == (4, ROWS)
    for own, half in zip(found, inside, strict=True):
        assert own[half].mean() > own[~half].mean() + 1
    again, _ = training.confidences(noisy, 4, seed=1)
    np.testing.assert_array_equal(found, again)
    other, _ = training.confidences(noisy, 4, seed=2)
    assert (found != other).any()


def test_a_private_recipe_is_repeated_with_its_noise(
    rows: Features, preprocessor: Preprocessor
) -> None:
    """The more epsilon, the nearer to the same steps without noise; half of the rows suffice."""
    step = LINEAR.model_copy(update={"epochs": 1, "batch_size": ROWS, "proximal_mu": 0.0})

    def private(epsilon: float) -> np.ndarray:
        privacy = PrivacyConfig(epsilon=epsilon, clip=50.0, minimum_rows=ROWS)
        plan = ShadowPlan(training=step, rounds=5, privacy=privacy)
        return np.concatenate([w.ravel() for w in weights(plan, preprocessor, rows)])

    clear = weights(ShadowPlan(training=step, rounds=5), preprocessor, rows)
    gaps = [np.abs(private(e) - np.concatenate([w.ravel() for w in clear])).max() for e in (1, 100)]
    assert gaps[1] < gaps[0] / 5
    np.testing.assert_array_equal(private(1), private(1))

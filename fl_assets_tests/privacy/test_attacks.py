"""The attacks against closed forms on Gaussians, SciPy and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn.metrics import log_loss, roc_auc_score

from fl_assets.privacy.attacks import (
    PER_ROW_VARIANCE,
    TooFewShadowsError,
    balanced_halves,
    confidence,
    likelihood_ratio,
    loss_threshold,
)

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def gaussians(
    shift: float, models: int, rows: int = 4000, difficulty: float = 2.0, seed: int = 0
) -> tuple[Bools, Floats, Floats, Bools]:
    """Confidences that have a mean per row, and ``shift`` more where the row was trained on."""
    rng = np.random.default_rng(seed)
    mean = difficulty * rng.standard_normal(rows)
    member, inside = rng.random(rows) < 0.5, balanced_halves(models, rows, rng)
    target = mean + shift * member + rng.standard_normal(rows)
    shadows = mean + shift * inside + rng.standard_normal((models, rows))
    return member, target, shadows, inside


def test_a_confidence_is_the_logit_of_the_own_label() -> None:
    probability = np.array([0.1, 0.5, 0.9, 0.0, 1.0])
    found = confidence(np.array([0, 1, 1, 1, 0]), probability)
    np.testing.assert_allclose(found[:3], [np.log(9), 0, np.log(9)], atol=1e-12)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[3:], found[3])
    assert found[3] < -35


def test_the_loss_attack_scores_by_the_negated_loss() -> None:
    rng = np.random.default_rng(1)
    y, probability = rng.integers(0, 2, 50).astype(float), rng.random(50)
    found = loss_threshold(confidence(y, probability))
    expected = [-log_loss([a], [p], labels=[0, 1]) for a, p in zip(y, probability, strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("shift", [0.5, 1.5])
def test_both_attacks_reach_the_area_that_theory_gives(shift: float) -> None:
    """LiRA knows how hard each row is; the loss threshold does not."""
    member, target, shadows, inside = gaussians(shift, models=128)
    lira = roc_auc_score(member, likelihood_ratio(target, shadows, inside))
    loss = roc_auc_score(member, loss_threshold(target))
    assert lira == pytest.approx(norm.cdf(shift / np.sqrt(2)), abs=0.02)
    assert loss == pytest.approx(norm.cdf(shift / np.sqrt(2 * (1 + 2.0**2))), abs=0.02)


def test_few_shadow_models_cost_power_but_invent_none() -> None:
    member, target, shadows, inside = gaussians(1.5, models=8)
    few = roc_auc_score(member, likelihood_ratio(target, shadows, inside))
    assert norm.cdf(1.5 / np.sqrt(2)) - 0.08 < few < norm.cdf(1.5 / np.sqrt(2))


@pytest.mark.parametrize("models", [4, 16, 128])
def test_a_model_that_remembers_nobody_is_a_coin_flip(models: int) -> None:
    member, target, shadows, inside = gaussians(0.0, models)
    # The deviation of the area over 2,000 and 2,000 rows is 0.009.
    assert roc_auc_score(member, likelihood_ratio(target, shadows, inside)) == pytest.approx(
        0.5, abs=0.03
    )
    assert roc_auc_score(member, loss_threshold(target)) == pytest.approx(0.5, abs=0.03)


def test_many_shadow_models_give_scipys_ratio_of_densities() -> None:
    _, target, shadows, inside = gaussians(1.0, models=PER_ROW_VARIANCE, rows=40)
    found = likelihood_ratio(target, shadows, inside)
    for row in range(40):
        own, chosen = shadows[:, row], inside[:, row]
        log_density = [
            norm.logpdf(target[row], own[side].mean(), own[side].std(ddof=1))
            for side in (chosen, ~chosen)
        ]
        assert found[row] == pytest.approx(log_density[0] - log_density[1])


def test_with_equal_gaussians_for_all_rows_it_orders_as_the_loss_does() -> None:
    inside = np.array([[1], [1], [0], [0]], dtype=bool).repeat(30, axis=1)
    shadows = np.array([[3.0], [5.0], [0.0], [2.0]]).repeat(30, axis=1)
    target = np.random.default_rng(3).standard_normal(30)
    found = likelihood_ratio(target, shadows, inside)
    assert (found.argsort() == loss_threshold(target).argsort()).all()


def test_models_that_agree_to_the_last_bit_are_no_division_by_zero() -> None:
    inside = balanced_halves(4, 10, np.random.default_rng(0))
    assert (likelihood_ratio(np.ones(10), np.ones((4, 10)), inside) == 0).all()
    assert likelihood_ratio(np.empty(0), np.empty((4, 0)), np.empty((4, 0), dtype=bool)).size == 0


def test_too_few_shadow_models_are_refused() -> None:
    inside = np.array([[1, 1], [1, 1], [0, 1], [0, 0]], dtype=bool)
    with pytest.raises(TooFewShadowsError, match="train more"):
        likelihood_ratio(np.zeros(2), np.zeros((4, 2)), inside)


def test_every_row_is_in_half_of_the_training_sets() -> None:
    inside = balanced_halves(16, 500, np.random.default_rng(5))
    assert (inside.sum(axis=0) == 8).all()
    # And the sets are random ones: each has about half of the rows, no two are alike.
    assert (abs(inside.sum(axis=1) - 250) < 60).all()
    assert len(np.unique(inside, axis=0)) == 16

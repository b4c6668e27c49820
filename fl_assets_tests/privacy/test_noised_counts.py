from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq

from fl_assets.privacy.accounting import epsilon, noise_multiplier
from fl_assets.privacy.events import MechanismEvent
from fl_assets.privacy.noise import SecureNoise, SeededNoise
from fl_assets.privacy.noised_counts import add_noise, onto_total, whole


@pytest.mark.parametrize("sensitivity", [1.0, math.sqrt(17)])
def test_the_noise_is_as_large_as_epsilon_asks(sensitivity: float) -> None:
    multiplier = noise_multiplier(1.0, 1e-5, 1.0, 1)
    exact = np.full(40_000, 1000.0)
    errors = add_noise(exact, sensitivity, multiplier, SeededNoise(3)) - exact
    assert errors.std() == pytest.approx(sensitivity * multiplier, rel=0.02)
    assert abs(errors.mean()) < 4 * sensitivity * multiplier / 200
    assert epsilon([MechanismEvent(noise_multiplier=multiplier)], 1e-5) <= 1.0
    # Every coordinate has noise of its own.
    assert abs(np.corrcoef(errors[:-1], errors[1:])[0, 1]) < 0.02


def test_what_leaves_has_the_precision_of_float32() -> None:
    noised = add_noise(np.full(100, 0.1), 1.0, 3.7, SecureNoise())
    assert noised.dtype == np.float64
    assert (noised == noised.astype(np.float32)).all()
    assert len(np.unique(noised)) == 100


def test_people_are_whole_and_not_fewer_than_none() -> None:
    assert whole(np.array([-3.2, -0.4, 0.4, 0.6, 7.0])).tolist() == [0, 0, 0, 1, 7]


def test_exact_counts_stay() -> None:
    exact = np.array([0.0, 3.0, 0.0, 12.0])
    np.testing.assert_allclose(onto_total(exact, 15), exact, atol=1e-12)
    assert onto_total(exact, 0).tolist() == [0, 0, 0, 0]


@given(
    st.lists(st.floats(-50, 500), min_size=1, max_size=12),
    st.integers(1, 800),
)
def test_the_nearest_counts_with_that_total(cells: list[float], total: int) -> None:
    noised = np.array(cells)
    found = onto_total(noised, total)
    assert (found >= 0).all()
    assert found.sum() == pytest.approx(total)
    # By another route: all give up the same amount, which a root finder finds.
    given_up = brentq(
        lambda a: np.maximum(noised - a, 0).sum() - total, noised.min() - total - 1, noised.max()
    )
    np.testing.assert_allclose(found, np.maximum(noised - given_up, 0), atol=1e-6)


def test_empty_cells_do_not_fill_up_with_noise() -> None:
    exact = np.array([30.0, *[0.0] * 9])
    noise = SeededNoise(1)
    cut, projected = [], []
    for _ in range(200):
        noised = add_noise(exact, 1.0, 3.7, noise)
        cut.append(np.maximum(noised, 0)[1:].sum())
        projected.append(onto_total(noised, 30)[1:].sum())
    assert np.mean(projected) < 0.5 * np.mean(cut)

from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import ttest_rel

from fl_assets.learning.inputs import EmptyInputError, LengthMismatchError
from fl_assets.learning.intervals import (
    auprc_interval,
    auroc_interval,
    delong_variance,
    paired_difference,
)
from fl_assets.learning.metrics import auprc, auroc


def binormal(m, n, distance, rng):
    """Scores of m positives and n negatives whose true AUROC is Phi(distance / sqrt(2))."""
    x = np.concatenate([rng.normal(distance, 1, m), rng.normal(0, 1, n)])
    return np.repeat([1, 0], [m, n]), 1 / (1 + np.exp(-x))


def brute_force_delong(y, score):
    """DeLong et al. 1988, equations 4 and 5, pair by pair."""
    psi = [[1.0 if p > q else 0.5 if p == q else 0.0 for q in score[y == 0]] for p in score[y == 1]]
    m, n = len(psi), len(psi[0])
    area = sum(map(sum, psi)) / (m * n)
    s10 = sum((sum(row) / n - area) ** 2 for row in psi) / (m - 1)
    s01 = sum((sum(column) / m - area) ** 2 for column in zip(*psi, strict=True)) / (n - 1)
    return s10 / m + s01 / n


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 12)), min_size=4, max_size=50))
def test_delong_equals_the_sum_over_pairs(pairs):
    y, score = np.array([p for p, _ in pairs]), np.array([k / 12 for _, k in pairs])
    assume(min(y.sum(), (~y).sum()) >= 2)
    assert delong_variance(y, score) == pytest.approx(brute_force_delong(y, score), abs=1e-12)


def test_delong_needs_two_of_each():
    assert delong_variance(np.array([1, 0, 0]), np.array([0.5, 0.2, 0.3])) is None


@given(
    st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=2, max_size=60),
    st.sampled_from([0.8, 0.95, 0.999]),
)
def test_the_interval_holds_the_area_and_stays_in_range(pairs, level):
    y, score = np.array([p for p, _ in pairs]), np.array([s for _, s in pairs])
    assume(0 < y.sum() < len(y))
    low, high = auroc_interval(y, score, level)
    assert 0 <= low <= auroc(y, score) <= high <= 1


@pytest.mark.parametrize("positives", [1, 2, 3, 8, 12, 25, 60])
def test_the_auroc_interval_covers_the_truth(positives):
    rng, runs, truth = np.random.default_rng(positives), 400, NormalDist().cdf(1.4 / 2**0.5)
    inside = 0
    for _ in range(runs):
        low, high = auroc_interval(*binormal(positives, 200, 1.4, rng))
        inside += low <= truth <= high
    # Three standard errors of 400 runs are 0.033.
    assert inside / runs > 0.95 - 0.04


def test_many_positives_give_the_textbook_interval():
    y, score = binormal(300, 300, 1.0, np.random.default_rng(0))
    area, spread = auroc(y, score), delong_variance(y, score) ** 0.5
    low, high = auroc_interval(y, score)
    assert (high - low) == pytest.approx(2 * 1.96 * spread, rel=0.02)
    assert area - low > high - area


def test_perfect_separation_is_no_certainty():
    for k, floor in ((1, 0.025), (5, 0.025 ** (1 / 5)), (50, 0.025 ** (1 / 50))):
        y = np.repeat([1, 0], [k, 100])
        score = np.where(y == 1, 0.9, 0.1)
        assert auroc_interval(y, score) == pytest.approx((floor, 1.0))
        assert auroc_interval(1 - y, score) == pytest.approx((0.0, 1 - floor))


def test_two_positives_that_agree_do_not_make_a_narrow_interval():
    rng = np.random.default_rng(4)
    score = np.concatenate([[0.8, 0.8], rng.uniform(0, 1, 500)])
    low, high = auroc_interval(np.repeat([1, 0], [2, 500]), score)
    assert high - low > 0.4


def test_intervals_of_what_has_none():
    y = np.repeat([1, 0], [20, 20])
    assert auroc_interval(y, np.full(40, 0.3)) == (0.5, 0.5)
    assert auroc_interval(np.zeros(9), np.linspace(0, 1, 9)) is None
    assert auprc_interval(np.zeros(9), np.linspace(0, 1, 9)) is None
    assert auprc_interval(np.ones(9), np.linspace(0, 1, 9)) is None
    assert auprc_interval(y, np.where(y == 1, 0.9, 0.1)) is None
    few = np.repeat([1, 0], [4, 100])
    assert auprc_interval(few, np.random.default_rng(0).random(104)) is None


def test_the_auprc_interval_is_a_stratified_bootstrap():
    rng = np.random.default_rng(5)
    y, score = binormal(30, 120, 1.2, rng)
    score = np.round(score, 2)
    ones, zeros = np.flatnonzero(y), np.flatnonzero(y == 0)
    areas = []
    for _ in range(2000):
        drawn = np.concatenate([rng.choice(ones, 30), rng.choice(zeros, 120)])
        areas.append(auprc(y[drawn], score[drawn]))
    expected = np.quantile(areas, [0.025, 0.975])
    assert auprc_interval(y, score, replicates=2000) == pytest.approx(expected, abs=0.02)


def test_the_auprc_interval_repeats_itself_and_narrows():
    y, score = binormal(200, 800, 1.2, np.random.default_rng(6))
    low, high = auprc_interval(y, score)
    assert (low, high) == auprc_interval(y, score)
    assert (low, high) != auprc_interval(y, score, seed=1)
    assert low < auprc(y, score) < high
    few = np.concatenate([np.arange(20), np.arange(200, 280)])
    narrow, (wide_low, wide_high) = high - low, auprc_interval(y[few], score[few])
    assert wide_high - wide_low > narrow


def test_a_bootstrap_of_more_cells_than_fit_in_one_block(monkeypatch):
    y, score = binormal(40, 160, 1.2, np.random.default_rng(7))
    whole = auprc_interval(y, score)
    monkeypatch.setattr("fl_assets.learning.intervals.BLOCK", 1000)
    assert auprc_interval(y, score) == pytest.approx(whole, abs=0.03)


def test_paired_difference_is_the_paired_t_interval():
    rng = np.random.default_rng(8)
    b = rng.normal(0.83, 0.02, 20)
    a = b + rng.normal(0.01, 0.005, 20)
    found = paired_difference(a.tolist(), b.tolist())
    expected = ttest_rel(a, b).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.mean == pytest.approx((a - b).mean())
    assert found.sd == pytest.approx((a - b).std(ddof=1))
    assert (found.n, found.wins) == (20, (a > b).sum())


def test_overlapping_training_sets_widen_the_interval():
    a, b = [0.84, 0.85, 0.86, 0.83, 0.85], [0.83, 0.85, 0.84, 0.83, 0.83]
    plain, corrected = paired_difference(a, b), paired_difference(a, b, test_to_train=0.25)
    assert corrected.standard_error == pytest.approx(plain.sd * (1 / 5 + 0.25) ** 0.5)
    assert corrected.high - corrected.low > plain.high - plain.low


def test_folds_without_a_value_are_left_out():
    found = paired_difference([0.9, None, 0.7, 0.6], [0.8, 0.5, None, 0.6])
    assert (found.n, found.wins) == (2, 1)
    assert found.mean == pytest.approx(0.05)
    single = paired_difference([0.9], [0.8])
    assert (single.n, single.sd, single.low, single.high) == (1, None, None, None)


def test_what_cannot_be_paired():
    with pytest.raises(LengthMismatchError):
        paired_difference([0.9], [0.8, 0.7])
    with pytest.raises(EmptyInputError):
        paired_difference([None, 0.5], [0.5, None])

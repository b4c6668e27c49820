"""Paired comparison against the definitions, and the coverage of its interval."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from fl_assets.learning.inputs import BadScoreError, Floats, LengthMismatchError
from fl_assets.learning.metrics import Metric
from fl_assets.learning.paired import (
    PairedEvaluation,
    PairedMetric,
    Scored,
    combine,
    compare_pair,
    delong_difference,
)


def people(n: int, seed: int, gain: float = 0.0) -> tuple[Floats, Floats, Floats]:
    """Labels and two correlated scores, of which the second knows more if ``gain`` is above 0."""
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < 0.1).astype(float)
    signal = rng.normal(size=n) + 1.2 * y
    a, b = signal + rng.normal(size=n), signal + rng.normal(size=n) * (1 - gain)
    return y, norm.cdf(a), norm.cdf(b)


def delong_by_definition(y: Floats, a: Floats, b: Floats) -> float:
    """Standard error of the difference from the paper's covariance matrices, O(m n)."""
    psi = [
        (s[y == 1][:, None] > s[y == 0]) + 0.5 * (s[y == 1][:, None] == s[y == 0]) for s in (a, b)
    ]
    s10 = np.cov([p.mean(axis=1) for p in psi])
    s01 = np.cov([p.mean(axis=0) for p in psi])
    covariance = s10 / psi[0].shape[0] + s01 / psi[0].shape[1]
    contrast = np.array([-1, 1])
    return float(np.sqrt(contrast @ covariance @ contrast))


@pytest.mark.parametrize("decimals", [8, 1])
def test_delong_is_the_papers_also_with_ties(decimals: int) -> None:
    y, a, b = people(300, 1)
    a, b = a.round(decimals), b.round(decimals)
    found = delong_difference(y, a, b)
    assert found is not None
    error, (low, high) = found
    assert error == pytest.approx(delong_by_definition(y, a, b), rel=1e-12)
    assert (low + high) / 2 == pytest.approx(roc_auc_score(y, b) - roc_auc_score(y, a), abs=1e-12)


def test_the_interval_covers_the_true_difference_of_zero() -> None:
    """Some 15 positives each, where the normal interval would be too narrow."""
    covered = 0
    for seed in range(400):
        found = delong_difference(*people(150, seed))
        assert found is not None
        covered += found[1][0] <= 0 <= found[1][1]
    # 95 % within three standard errors of 400 draws.
    assert 0.917 <= covered / 400 <= 0.983


def test_a_better_model_is_told_from_a_worse_one() -> None:
    y, a, b = people(3000, 3, gain=0.8)
    found = compare_pair(y, Scored(a, 0.5), Scored(b, 0.5), replicates=100).metrics
    assert found[Metric.AUROC].distinguishable
    assert found[Metric.AUPRC].distinguishable
    mirrored = compare_pair(y, Scored(b, 0.5), Scored(a, 0.5), replicates=100).metrics
    assert mirrored[Metric.AUROC].low == pytest.approx(-(found[Metric.AUROC].high or 0))


def test_points_are_those_of_scikit_learn() -> None:
    y, a, b = people(500, 4)
    found = compare_pair(y, Scored(a, 0.5), Scored(b, 0.6), replicates=10)
    assert (found.n, found.positives) == (500, int(y.sum()))
    for metric, reference in {
        Metric.AUROC: roc_auc_score,
        Metric.AUPRC: average_precision_score,
        Metric.BRIER: brier_score_loss,
    }.items():
        one = found.metrics[metric]
        assert (one.a, one.b) == (
            pytest.approx(reference(y, a)),
            pytest.approx(reference(y, b)),
        )
        assert one.difference == pytest.approx((one.b or 0) - (one.a or 0))


def test_the_bootstrap_of_the_brier_score_has_its_known_error() -> None:
    """The Brier score is a mean, so the error of a difference is known in closed form."""
    y, a, b = people(2000, 5)
    gaps = (b - y) ** 2 - (a - y) ** 2
    # Positives and negatives are drawn among themselves.
    strata = [gaps[y == label] for label in (0, 1)]
    expected = np.sqrt(sum(s.var() * s.size for s in strata)) / gaps.size
    found = compare_pair(y, Scored(a, 0.5), Scored(b, 0.5), replicates=1000)
    assert found.metrics[Metric.BRIER].standard_error == pytest.approx(expected, rel=0.08)


def test_a_model_against_itself_is_no_different() -> None:
    y, a, _ = people(300, 6)
    found = compare_pair(y, Scored(a, 0.5), Scored(a, 0.5), replicates=20)
    for metric in found.metrics.values():
        assert (metric.difference, metric.low, metric.high) == (0, 0, 0)
        assert not metric.distinguishable


def test_too_few_of_a_class_show_a_difference_without_an_interval() -> None:
    y = np.array([1, 1, 0, 0, 0, 0, 0, 0], dtype=float)
    a, b = np.linspace(0, 1, 8), np.linspace(1, 0, 8)
    found = compare_pair(y, Scored(a, 0.5), Scored(b, 0.5)).metrics[Metric.AUROC]
    assert found.difference == 1
    assert found.low is None
    alone = compare_pair(y[:2], Scored(a[:2], 0.5), Scored(b[:2], 0.5)).metrics[Metric.AUROC]
    assert (alone.a, alone.b, alone.difference) == (None, None, None)


def test_a_constant_gain_without_any_variance_is_not_called_certain() -> None:
    y = np.repeat([1.0, 0.0], 6)
    assert delong_difference(y, 1 - y, y) is None


def test_what_does_not_go_together_is_refused() -> None:
    y, a, b = people(50, 7)
    with pytest.raises(LengthMismatchError):
        compare_pair(y, Scored(a, 0.5), Scored(b[1:], 0.5))
    with pytest.raises(BadScoreError):
        delong_difference(y, a, b + 1)


def metric(a: float, b: float, error: float | None) -> PairedMetric:
    return PairedMetric(a=a, b=b, difference=b - a, standard_error=error)


def evaluation(n: int, auroc: PairedMetric) -> PairedEvaluation:
    y, a, b = people(60, 8)
    metrics = compare_pair(y, Scored(a, 0.5), Scored(b, 0.5), replicates=10).metrics
    return PairedEvaluation(n=n, positives=5, metrics=metrics | {Metric.AUROC: auroc})


def test_hospitals_are_weighted_by_people_and_independent() -> None:
    large = evaluation(300, metric(0.8, 0.9, 0.04))
    small = evaluation(100, metric(0.6, 0.5, 0.08))
    blind = evaluation(100, metric(0.5, 1.0, None))
    found = combine([large, small, blind])
    assert found is not None
    assert found.n == 500
    auroc = found.metrics[Metric.AUROC]
    assert auroc.hospitals == 2
    assert auroc.a == pytest.approx(0.75)
    assert auroc.difference == pytest.approx(0.75 * 0.1 - 0.25 * 0.1)
    assert auroc.standard_error == pytest.approx(np.hypot(0.75 * 0.04, 0.25 * 0.08))


def test_one_hospital_is_its_own_mean_and_none_has_no_mean() -> None:
    one = evaluation(300, metric(0.8, 0.9, 0.04))
    found = combine([one])
    assert found is not None
    assert found.metrics[Metric.AUROC].difference == pytest.approx(0.1)
    assert combine([]) is None
    blind = combine([evaluation(100, metric(0.5, 1.0, None))])
    assert blind is not None
    assert blind.metrics[Metric.AUROC].difference is None

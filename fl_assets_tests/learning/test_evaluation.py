import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from fl_assets.learning.evaluation import Evaluation, calibration_bins, evaluate, roc_points
from fl_assets.learning.inputs import MetricInputError

rows = st.lists(st.tuples(st.booleans(), st.integers(0, 20)), min_size=1, max_size=80)


def arrays(pairs):
    return np.array([p for p, _ in pairs]), np.array([k / 20 for _, k in pairs])


def sample(n=600, rate=0.1, seed=0):
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < rate).astype(int)
    return y, 1 / (1 + np.exp(-(rng.normal(size=n) + 1.5 * y - 3)))


@given(rows)
def test_roc_points_lie_on_scikit_learns_curve(pairs):
    y, score = arrays(pairs)
    assume(0 < y.sum() < len(y))
    fpr, tpr, _ = roc_curve(y, score, drop_intermediate=False)
    # np.interp needs ascending abscissae: lean each jump to the right by next to nothing, and look
    # behind it.
    rates = np.arange(101) / 100
    expected = np.interp(rates + 2e-9, fpr + tpr * 1e-9, tpr)
    assert roc_points(y, score) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("negatives", [6, 49, 100])
def test_a_jump_on_a_grid_point_counts_with_its_upper_end(negatives):
    # As many steps as the grid has: every false-positive rate lies on it.
    y = np.tile([1, 0], negatives)
    score = np.linspace(1, 0, 2 * negatives)
    steps = [min(k + 1, negatives) / negatives for k in range(negatives + 1)]
    assert roc_points(y, score, negatives + 1) == steps


def test_the_area_under_the_points_is_the_auroc():
    y, score = sample(5000)
    assert np.trapezoid(roc_points(y, score, 1001), dx=1e-3) == pytest.approx(
        roc_auc_score(y, score), abs=1e-3
    )


def test_a_constant_score_gives_the_diagonal():
    assert roc_points(np.array([0, 1, 0]), np.full(3, 0.2)) == pytest.approx(np.linspace(0, 1, 101))
    assert roc_points(np.array([0, 0]), np.array([0.1, 0.2])) == []


@given(rows, st.integers(1, 12), st.integers(1, 12))
def test_calibration_bins_stand_for_enough_people_and_lose_none(pairs, bins, minimum):
    y, score = arrays(pairs)
    found = calibration_bins(y, score, bins, minimum)
    if len(y) < minimum:
        assert found == []
        return
    assert len(found) <= bins
    assert all(group.n >= minimum for group in found)
    assert sum(group.n for group in found) == len(y)
    assert sum(group.n * group.observed for group in found) == pytest.approx(y.sum())
    assert sum(group.n * group.predicted for group in found) == pytest.approx(score.sum())
    means = [group.predicted for group in found]
    assert means == sorted(means)


def test_bins_are_of_equal_mass():
    y, score = sample(1000)
    assert [group.n for group in calibration_bins(y, score)] == [100] * 10


def test_an_evaluation_survives_json():
    y, score = sample()
    found = evaluate(y, score)
    assert Evaluation.model_validate_json(found.model_dump_json()) == found
    assert (found.n, found.positives) == (600, y.sum())
    assert found.auroc_low < found.auroc < found.auroc_high
    assert found.auprc_low < found.auprc < found.auprc_high
    assert found.sensitivity == found.sensitivity_at_80_specificity
    assert found.specificity >= 0.8
    assert len(found.roc) == 101


def test_a_given_threshold_is_kept():
    y, score = sample()
    found = evaluate(y, score, threshold=0.3)
    assert found.threshold == 0.3
    assert found.sensitivity == pytest.approx(np.mean(score[y == 1] >= 0.3))
    assert found.accuracy == pytest.approx(np.mean((score >= 0.3) == y))
    assert found.sensitivity_at_80_specificity == evaluate(y, score).sensitivity_at_80_specificity


def test_a_hospital_without_positives_has_an_evaluation():
    found = evaluate(np.zeros(40), np.linspace(0, 0.2, 40))
    assert (found.positives, found.auroc, found.auroc_low, found.auprc) == (0, None, None, None)
    assert (found.sensitivity, found.balanced_accuracy, found.roc) == (None, None, [])
    assert found.specificity >= 0.8
    assert found.brier > 0
    assert Evaluation.model_validate_json(found.model_dump_json()) == found


def test_a_hospital_with_positives_alone_has_an_evaluation():
    found = evaluate(np.ones(6), np.linspace(0.1, 0.2, 6))
    assert (found.threshold, found.sensitivity, found.accuracy) == (None, None, None)
    assert evaluate(np.ones(6), np.linspace(0.1, 0.2, 6), threshold=0.0).sensitivity == 1


def test_the_minimum_holds_for_what_is_released():
    y, score = sample(23)
    assert min(group.n for group in evaluate(y, score, minimum=7).calibration) >= 7
    assert evaluate(y[:6], score[:6], minimum=7).calibration == []


def test_bad_input_is_refused():
    with pytest.raises(MetricInputError):
        evaluate(np.array([0, 1]), np.array([0.5, np.nan]))

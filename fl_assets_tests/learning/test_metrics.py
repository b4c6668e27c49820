import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn import metrics as reference

from fl_assets.learning.evaluation import Evaluation
from fl_assets.learning.metrics import (
    Metric,
    auprc,
    auroc,
    brier,
    confusion,
    ece,
    log_loss,
    majority_rate,
    sensitivity_at_specificity,
    threshold_at_specificity,
    weighted_mean,
)

# Scores on a coarse grid, so that ties are the rule.
rows = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 20).map(lambda k: k / 20)), min_size=2, max_size=60
)


def split(pairs):
    y, score = (np.array(column) for column in zip(*pairs, strict=True))
    assume(0 < y.sum() < len(y))
    return y, score


def sample(n, rate, seed, decimals=6):
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < rate).astype(int)
    y[:2] = 0, 1
    score = 1 / (1 + np.exp(-(rng.normal(size=n) + 1.3 * y - 3)))
    return y, np.round(score, decimals)


@given(rows)
def test_auroc_and_average_precision_equal_scikit_learns(pairs):
    y, score = split(pairs)
    assert auroc(y, score) == pytest.approx(reference.roc_auc_score(y, score), abs=1e-12)
    assert auprc(y, score) == pytest.approx(reference.average_precision_score(y, score), abs=1e-12)


@given(rows)
def test_auroc_counts_pairs(pairs):
    y, score = split(pairs)
    gaps = score[y == 1][:, None] - score[y == 0]
    assert auroc(y, score) == pytest.approx(np.mean((gaps > 0) + 0.5 * (gaps == 0)))


@given(rows)
def test_a_monotone_transform_leaves_ranking_metrics_alone(pairs):
    y, score = split(pairs)
    squeezed = score**3 / 2 + 0.1
    assert auroc(y, squeezed) == pytest.approx(auroc(y, score))
    assert auprc(y, squeezed) == pytest.approx(auprc(y, score))
    assert sensitivity_at_specificity(y, squeezed) == sensitivity_at_specificity(y, score)


@given(rows)
def test_swapping_classes_and_turning_scores_leaves_auroc_alone(pairs):
    y, score = split(pairs)
    assert auroc(1 - y, 1 - score) == pytest.approx(auroc(y, score))
    assert auroc(1 - y, score) == pytest.approx(1 - auroc(y, score))


@given(rows, st.sampled_from([0.0, 0.5, 0.8, 0.9, 1.0]))
def test_the_threshold_reaches_the_specificity_with_the_best_sensitivity(pairs, wanted):
    y, score = split(pairs)
    candidates = [*np.unique(score), 2.0]
    operating = [(np.mean(score[y == 0] < t), np.mean(score[y == 1] >= t)) for t in candidates]
    best = max(
        sensitivity for specificity, sensitivity in operating if specificity >= wanted - 1e-9
    )

    threshold = threshold_at_specificity(y, score, wanted)
    counts = confusion(y, score, threshold)
    assert sensitivity_at_specificity(y, score, wanted) == pytest.approx(best)
    assert counts.sensitivity == pytest.approx(best)
    assert counts.specificity >= wanted - 1e-9
    assert threshold not in score


@given(rows, st.floats(0, 1))
def test_confusion_equals_scikit_learns(pairs, threshold):
    y, score = split(pairs)
    called = score >= threshold
    counts = confusion(y, score, threshold)
    tn, fp, fn, tp = reference.confusion_matrix(y, called, labels=[0, 1]).ravel()
    assert counts == (tp, fp, tn, fn)
    assert counts.accuracy == pytest.approx(reference.accuracy_score(y, called))
    assert counts.sensitivity == pytest.approx(reference.recall_score(y, called))
    assert counts.balanced_accuracy == pytest.approx(reference.balanced_accuracy_score(y, called))


@given(rows)
def test_brier_and_log_loss_equal_scikit_learns(pairs):
    y, score = split(pairs)
    assert brier(y, score) == pytest.approx(reference.brier_score_loss(y, score))
    assert log_loss(y, score) == pytest.approx(reference.log_loss(y, score))


def test_ece_equals_the_definition_where_nothing_ties():
    y, score = sample(500, 0.1, seed=1, decimals=12)
    assert len(np.unique(score)) == 500
    order = np.argsort(score)
    bins = np.array_split(order, 10)
    expected = sum(len(b) / 500 * abs(score[b].mean() - y[b].mean()) for b in bins)
    assert ece(y, score) == pytest.approx(expected)


@given(rows, st.randoms(use_true_random=False))
def test_ece_does_not_depend_on_the_order_of_rows(pairs, random):
    y, score = split(pairs)
    order = list(range(len(y)))
    random.shuffle(order)
    assert ece(y[order], score[order]) == pytest.approx(ece(y, score))


def test_ece_of_constants_and_of_fewer_rows_than_bins():
    y = np.array([0, 0, 0, 1])
    assert ece(y, np.full(4, 0.25)) == pytest.approx(0)
    assert ece(y, np.full(4, 0.75)) == pytest.approx(0.5)
    assert ece(y, np.array([0.1, 0.2, 0.3, 0.9])) == pytest.approx((0.1 + 0.2 + 0.3 + 0.1) / 4)


def test_ece_shows_up_a_shifted_model():
    y, _ = sample(4000, 0.05, seed=2)
    rate = np.full(len(y), y.mean())
    assert ece(y, rate) < 1e-9
    assert ece(y, np.clip(rate + 0.2, 0, 1)) == pytest.approx(0.2)


@pytest.mark.parametrize("label", [0, 1])
def test_with_one_class_absent_metrics_do_not_exist(label):
    y, score = np.full(8, label), np.linspace(0.1, 0.9, 8)
    assert auroc(y, score) is None
    assert auprc(y, score) is None
    assert sensitivity_at_specificity(y, score) is None
    assert confusion(y, score, 0.5).balanced_accuracy is None
    assert majority_rate(y) == 1
    assert log_loss(y, score) > 0


def test_only_the_class_that_a_number_needs_must_be_there():
    score = np.array([0.2, 0.4])
    assert threshold_at_specificity(np.array([1, 1]), score) is None
    assert threshold_at_specificity(np.array([0, 0]), score, 0.5) == pytest.approx(0.3)
    assert confusion(np.array([1, 1]), score, 0.3).sensitivity == 0.5
    assert confusion(np.array([1, 1]), score, 0.3).specificity is None


def test_a_constant_score_ranks_like_a_coin():
    y, score = np.array([0, 0, 0, 1]), np.full(4, 0.25)
    assert auroc(y, score) == 0.5
    assert auprc(y, score) == 0.25
    assert sensitivity_at_specificity(y, score) == 0
    assert threshold_at_specificity(y, np.ones(4)) > 1


def test_neighbouring_floats_still_have_a_threshold_between_them():
    # Half way between two neighbours is rounded to the one or to the other.
    low = 0.3
    for _ in range(2):
        high = float(np.nextafter(low, 1))
        y, score = np.array([0, 1]), np.array([low, high])
        assert confusion(y, score, threshold_at_specificity(y, score)) == (1, 0, 1, 0)
        low = high


def test_majority_rate_is_the_accuracy_of_the_larger_class():
    assert majority_rate(np.array([0, 0, 0, 1])) == 0.75
    assert majority_rate(np.array([1, 1, 1, 0])) == 0.75


def test_weighted_mean_leaves_out_what_does_not_exist():
    assert weighted_mean([(0.8, 100), (None, 900), (0.6, 300)]) == pytest.approx(0.65)
    assert weighted_mean([(None, 1.0)]) is None
    assert weighted_mean([(0.8, 0.0)]) is None
    assert weighted_mean([]) is None


def test_every_number_of_an_evaluation_is_a_metric():
    fields = set(Evaluation.model_fields) - {"n", "positives", "roc", "calibration"}
    assert fields == set(Metric) - {Metric.TRAIN_LOSS}

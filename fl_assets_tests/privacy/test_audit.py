"""What counts show: against scikit-learn, SciPy's exact test and mechanisms of known epsilon."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score, roc_curve

from fl_assets.learning.intervals import auroc_interval
from fl_assets.privacy.attacks import Attack
from fl_assets.privacy.audit import AttackResult, clopper_pearson, judge
from fl_assets.privacy.score_counts import ScoreCounts, count_scores, exact_counts


def judged(counts: ScoreCounts, delta: float = 0.0) -> AttackResult:
    found = judge(counts, delta)
    assert found is not None
    return found


def test_area_interval_and_curve_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    member = rng.random(700) < 0.6
    score = np.asarray(np.round(rng.standard_normal(700) + 0.8 * member, 1), dtype=np.float64)
    found = judged(exact_counts(score, member))
    assert (found.members, found.others) == (member.sum(), (~member).sum())
    assert found.auroc == pytest.approx(roc_auc_score(member, score))
    ranks = (score - score.min()) / np.ptp(score)
    assert (found.auroc_low, found.auroc_high) == pytest.approx(auroc_interval(member, ranks))
    fpr, tpr, _ = roc_curve(member, score, drop_intermediate=False)
    np.testing.assert_allclose(found.roc, np.stack([fpr, tpr], axis=1), atol=1e-12)
    assert found.hits == pytest.approx(tpr[fpr <= 0.01].max())


def test_hits_at_one_per_cent_of_false_alarms_with_their_interval() -> None:
    # Of 200 others two may be taken for members; the third is in the next cell.
    found = judged(ScoreCounts(members=(80, 5, 15), others=(197, 1, 2)))
    assert found.hits == 0.15
    exact = binomtest(15, 100).proportion_ci(0.95, "exact")
    assert (found.hits_low, found.hits_high) == pytest.approx((exact.low, exact.high))
    # Fewer than a hundred others: not one may be.
    assert judged(ScoreCounts(members=(3, 4), others=(40, 1))).hits == 0


def test_the_bounds_of_a_rate_are_scipys_exact_ones() -> None:
    successes = np.array([0, 1, 17, 49, 50])
    low, high = clopper_pearson(successes, 50, 0.01)
    for place, k in enumerate(successes):
        exact = binomtest(int(k), 50).proportion_ci(0.98, "exact")
        assert (low[place], high[place]) == pytest.approx((exact.low, exact.high))


def test_without_members_or_others_nothing_is_shown() -> None:
    assert judge(ScoreCounts(members=(0, 0), others=(3, 4))) is None
    assert judge(ScoreCounts(members=(3, 4), others=(0, 0))) is None
    assert judge(ScoreCounts(members=(0, 0), others=(0, 0))) is None
    alike = judged(ScoreCounts(members=(0, 9), others=(0, 9)))
    assert (alike.auroc, alike.epsilon, alike.hits) == (0.5, 0, 0)


def randomised_response(epsilon: float, people: int, seed: int) -> ScoreCounts:
    """A mechanism that tells the truth with odds of exp(epsilon), which is its exact epsilon."""
    rng = np.random.default_rng(seed)
    member = np.arange(2 * people) < people
    lies = rng.random(2 * people) < 1 / (1 + np.exp(epsilon))
    return exact_counts((member ^ lies).astype(float), member)


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 3.0])
def test_the_epsilon_of_randomised_response_is_found_from_below(epsilon: float) -> None:
    found = [judged(randomised_response(epsilon, 20_000, seed)).epsilon for seed in range(20)]
    # The bound is exceeded in 5 % of all cases at most.
    assert sum(f > epsilon for f in found) <= 2
    assert np.mean(found) == pytest.approx(0.95 * epsilon, abs=0.06 * epsilon)


def test_what_leaks_only_below_the_threshold_is_seen_as_well() -> None:
    """Members are nearly never in the lower cell, which says much of those who are."""
    found = judged(ScoreCounts(members=(100, 9900), others=(1000, 9000)))
    assert np.log(10) - 0.4 < found.epsilon < np.log(10)


def test_delta_is_forgiven() -> None:
    """One in a hundred is published: infinite epsilon without delta, none with it."""
    counts = ScoreCounts(members=(9900, 100), others=(10_000, 0))
    assert judged(counts).epsilon > 2
    assert judged(counts, delta=0.02).epsilon == 0


def test_of_64_thresholds_the_best_one_shows_nothing_where_there_is_nothing() -> None:
    """Without the correction for their number five of these would show something."""
    shown = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        score, member = 3 * rng.standard_normal(2000), rng.random(2000) < 0.7
        counts = count_scores(Attack.LIKELIHOOD_RATIO, score, member)
        shown += judged(counts).epsilon > 0
    assert shown <= 1

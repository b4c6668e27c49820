"""Counts of scores: what the floor makes of them, and how little of the attack they lose."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from fl_assets.privacy.attacks import Attack, balanced_halves, likelihood_ratio, loss_threshold
from fl_assets.privacy.audit import judge
from fl_assets.privacy.score_counts import (
    CELLS,
    EDGES,
    AuditCounts,
    ScoreCounts,
    count_attacks,
    count_scores,
    exact_counts,
    floored,
    total,
)
from fl_assets_tests.privacy.test_attacks import gaussians


def area(counts: ScoreCounts) -> float:
    found = judge(counts)
    assert found is not None
    return found.auroc


def attacked(
    shift: float, seed: int
) -> tuple[NDArray[np.bool_], dict[Attack, NDArray[np.float64]]]:
    member, target, shadows, inside = gaussians(shift, models=16, rows=1500, seed=seed)
    return member, {
        Attack.LOSS_THRESHOLD: loss_threshold(target),
        Attack.LIKELIHOOD_RATIO: likelihood_ratio(target, shadows, inside),
    }


@pytest.mark.parametrize("attack", Attack)
@pytest.mark.parametrize("shift", [0.05, 0.5, 3.0, 12.0])
def test_pooled_counts_lose_at_most_a_hundredth_of_the_area(attack: Attack, shift: float) -> None:
    """Three hospitals' released counts against scikit-learn on all their exact scores."""
    hospitals = [attacked(shift, seed) for seed in range(3)]
    released = [floored(count_scores(attack, s[attack], member), 5) for member, s in hospitals]
    member = np.concatenate([member for member, _ in hospitals])
    score = np.concatenate([scores[attack] for _, scores in hospitals])
    exact = roc_auc_score(member, score)
    assert area(total(released)) == pytest.approx(exact, abs=0.01)
    assert area(exact_counts(score, member)) == pytest.approx(exact, abs=1e-12)


@pytest.mark.parametrize("attack", Attack)
def test_any_score_has_a_cell(attack: Attack) -> None:
    assert len(EDGES[attack]) == CELLS - 1
    assert (np.diff(EDGES[attack]) > 0).all()
    extreme = np.array([-np.inf, -1e9, 0.0, 1e9, np.inf])
    counts = count_scores(attack, extreme, np.array([True, True, False, False, True]))
    assert (sum(counts.members), sum(counts.others)) == (3, 2)
    assert (counts.members[0], counts.members[-1]) == (2, 1)


@pytest.mark.parametrize("seed", range(20))
def test_the_floor_leaves_no_small_cell_and_loses_nobody(seed: int) -> None:
    rng = np.random.default_rng(seed)
    counts = ScoreCounts(
        members=tuple(rng.poisson(1.5, CELLS).tolist()),
        others=tuple(rng.poisson(0.7, CELLS).tolist()),
    )
    found = floored(counts, 5)
    people = np.add(found.members, found.others)
    assert people[people > 0].min() >= 5
    assert (sum(found.members), sum(found.others)) == (sum(counts.members), sum(counts.others))
    # Everyone's place depends on the number of people alone.
    swapped = floored(ScoreCounts(members=counts.others, others=counts.members), 5)
    assert (swapped.members, swapped.others) == (found.others, found.members)


def test_people_move_to_the_next_lower_cell() -> None:
    counts = ScoreCounts(members=(1, 0, 4, 2, 0), others=(1, 0, 3, 1, 1))
    assert floored(counts, 5) == ScoreCounts(members=(0, 0, 7, 0, 0), others=(0, 0, 6, 0, 0))
    assert floored(counts, 3) == ScoreCounts(members=(0, 0, 5, 2, 0), others=(0, 0, 4, 2, 0))
    assert floored(counts, 1) == counts


def test_fewer_people_than_the_floor_are_not_told() -> None:
    few = ScoreCounts(members=(0, 3, 0), others=(0, 0, 1))
    assert floored(few, 5) == ScoreCounts(members=(0, 0, 0), others=(0, 0, 0))


def test_the_labels_are_attacked_and_counted_apart() -> None:
    member, target, shadows, inside = gaussians(1.0, models=8, rows=300)
    y = (np.arange(300) % 5 == 0).astype(float)
    found = count_attacks(y, member, target, shadows, inside)
    for table, label in ((found.positives, 1), (found.negatives, 0)):
        rows = y == label
        score = likelihood_ratio(target[rows], shadows[:, rows], inside[:, rows])
        assert table == {
            Attack.LOSS_THRESHOLD: count_scores(
                Attack.LOSS_THRESHOLD, loss_threshold(target[rows]), member[rows]
            ),
            Attack.LIKELIHOOD_RATIO: count_scores(Attack.LIKELIHOOD_RATIO, score, member[rows]),
        }


def test_the_positives_can_be_held_back_and_documents_survive_json() -> None:
    y = np.ones(40)
    inside = balanced_halves(4, 40, np.random.default_rng(0))
    counts = count_attacks(y, y == 1, y, np.ones((4, 40)), inside)
    assert counts.floored(5, with_positives=False).positives == {}
    told = counts.floored(5, with_positives=True)
    assert sum(told.positives[Attack.LIKELIHOOD_RATIO].members) == 40
    assert AuditCounts.model_validate_json(told.model_dump_json()) == told

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from fl_assets.learning import metrics
from fl_assets.learning.inputs import BadLabelError, BadScoreError, Floats
from fl_assets.privacy import noised_scores
from fl_assets.privacy.noise import SeededNoise
from fl_assets.privacy.noised_counts import add_noise
from fl_assets.privacy.noised_scores import BINS, count_scores, figures

PREVALENCE = 0.05


@pytest.fixture(scope="module")
def scored() -> tuple[Floats, Floats]:
    """600 labels, 30 of them positive, and the scores of a fair model."""
    rng = np.random.default_rng(5)
    y = np.repeat([0.0, 1.0], [570, 30])
    return y, expit(rng.normal(np.where(y == 1, -2.2, -3.8), 1.0))


def bin_of(score: Floats) -> Floats:
    """Bins by arithmetic: half a unit of log odds wide, five on either side of the prevalence."""
    bins: Floats = np.clip(np.floor((logit(score) - logit(PREVALENCE)) / 0.5) + 5, 0, 9)
    return bins


def centre_of(score: Floats) -> Floats:
    centres: Floats = expit(logit(PREVALENCE) - 2.25 + 0.5 * bin_of(score))
    return centres


def test_a_row_is_in_one_count(scored: tuple[Floats, Floats]) -> None:
    y, score = scored
    counts = count_scores(y, score, PREVALENCE)
    assert counts.shape == (2 * BINS,)
    for label in (0, 1):
        expected = np.bincount(bin_of(score[y == label]).astype(int), minlength=BINS)
        assert counts[label * BINS :][:BINS].tolist() == expected.tolist()
    for row in range(0, len(y), 7):
        without = count_scores(np.delete(y, row), np.delete(score, row), PREVALENCE)
        assert np.linalg.norm(counts - without) == 1
    for label in (0, 1):
        for extreme in (0.0, PREVALENCE, 1.0):
            more = count_scores(np.append(y, label), np.append(score, extreme), PREVALENCE)
            assert np.linalg.norm(more - counts) == 1


def test_without_noise_the_figures_are_those_of_the_bins(scored: tuple[Floats, Floats]) -> None:
    y, score = scored
    found = figures(count_scores(y, score, PREVALENCE), 600, PREVALENCE)
    assert (found.rows, found.positives) == (600, 30)
    assert found.auroc == pytest.approx(roc_auc_score(y, bin_of(score)))
    assert found.brier == pytest.approx(brier_score_loss(y, centre_of(score)))
    assert found.log_loss == pytest.approx(log_loss(y, centre_of(score)))
    gaps = [abs((y - centre_of(score))[bin_of(score) == b].sum()) for b in range(BINS)]
    assert found.ece == pytest.approx(sum(gaps) / 600)


def test_the_bins_cost_little(scored: tuple[Floats, Floats]) -> None:
    y, score = scored
    noise = SeededNoise(2)
    # Epsilon 100 at delta 1e-5.
    found = figures(
        add_noise(count_scores(y, score, PREVALENCE), 1.0, 0.095, noise), 600, PREVALENCE
    )
    assert found.positives == 30
    assert found.auroc == pytest.approx(metrics.auroc(y, score), abs=0.02)
    assert found.brier == pytest.approx(metrics.brier(y, score), abs=0.002)
    assert found.log_loss == pytest.approx(metrics.log_loss(y, score), abs=0.01)
    assert found.threshold is not None
    assert np.mean(score[y == 0] < found.threshold) == pytest.approx(0.8, abs=0.02)
    exact = metrics.sensitivity_at_specificity(y, score)
    assert found.sensitivity_at_80_specificity == pytest.approx(exact, abs=0.05)


def test_noise_adds_what_is_said_and_no_more(scored: tuple[Floats, Floats]) -> None:
    y, score = scored
    counts, noise = count_scores(y, score, PREVALENCE), SeededNoise(4)
    # Epsilon 1 at delta 1e-5.
    drawn = [figures(add_noise(counts, 1.0, 3.73, noise), 600, PREVALENCE) for _ in range(300)]
    areas = [found.auroc for found in drawn if found.auroc is not None]
    assert len(areas) == 300
    assert np.std(areas) == pytest.approx(0.07, abs=0.03)
    assert 0 < roc_auc_score(y, score) - np.mean(areas) < 0.1
    positives = [found.positives for found in drawn]
    assert np.mean(positives) == pytest.approx(30, abs=2)
    # Of the 20 counts half the noise, since the number of rows is known.
    assert np.std(positives) == pytest.approx(3.73 * np.sqrt(20) / 2, rel=0.15)


@pytest.mark.parametrize("label", [0, 1])
def test_what_cannot_exist_is_none(label: int) -> None:
    counts = count_scores(np.full(50, label), np.full(50, 0.03), PREVALENCE)
    found = figures(counts, 50, PREVALENCE)
    assert found.positives == 50 * label
    assert found.auroc is None
    assert found.sensitivity_at_80_specificity is None
    assert (found.threshold is None) == (label == 1)
    assert found.brier > 0


def test_noise_alone_gives_figures_within_their_bounds() -> None:
    noise = SeededNoise(9)
    for _ in range(100):
        found = figures(add_noise(np.zeros(2 * BINS), 1.0, 40.0, noise), 5, PREVALENCE)
        assert 0 <= found.positives <= 5
        assert found.auroc is None or 0 <= found.auroc <= 1
        assert found.threshold is None or 0 < found.threshold < 1
        assert 0 <= found.brier <= 1
        assert 0 <= found.ece <= 1


def test_counts_of_any_cells_rank() -> None:
    y, cell = np.array([0, 0, 0, 1, 1]), np.array([0, 1, 3, 3, 2])
    counts = noised_scores.count_by_label(y, cell, 4)
    assert counts.tolist() == [1, 1, 0, 1, 0, 0, 1, 1]
    assert noised_scores.auroc(counts, 5) == pytest.approx(roc_auc_score(y, cell))


def test_labels_and_scores_are_checked() -> None:
    with pytest.raises(BadLabelError):
        count_scores(np.array([2.0]), np.array([0.5]), PREVALENCE)
    with pytest.raises(BadScoreError):
        count_scores(np.array([1.0]), np.array([1.5]), PREVALENCE)

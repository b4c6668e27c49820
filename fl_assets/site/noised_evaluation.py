"""A private recipe's model on a hospital's validation and test rows, told with noise alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from fl_assets.cohorts.spec import CohortSpec
from fl_assets.consortium import PrivacyBudget
from fl_assets.learning.evaluation import Evaluation
from fl_assets.learning.features import Preprocessor
from fl_assets.learning.inputs import Floats
from fl_assets.learning.training import predict
from fl_assets.privacy import noised_scores
from fl_assets.privacy.configs import PrivacyConfig
from fl_assets.privacy.noise import NoiseSource
from fl_assets.privacy.noised_counts import Noised
from fl_assets.privacy.noised_scores import BINS, ScoreFigures
from fl_assets.site import partitions
from fl_assets.site.noised_release import NoisedRelease
from fl_assets.site.training import WITHHELD, SiteRows, Validation
from fl_assets.storage import SiteStore


@dataclass(frozen=True)
class NoisedTest:
    """A model on the test rows.

    Attributes:
        evaluation: without what needs rows: intervals, curves, figures at the model's threshold.
        age_only_auroc: of ranking the same rows by the public bins of age.
        noised: how much noise there is.
    """

    evaluation: Evaluation
    age_only_auroc: float | None
    noised: Noised


def noised_figures(
    privacy: PrivacyConfig | None,
    hospital: str,
    budget: PrivacyBudget,
    noise: NoiseSource | None = None,
) -> NoisedRelease | None:
    """Return how a recipe has the figures of its model noised, None where it says nothing of it.

    Args:
        privacy: of the recipe.
        hospital: name.
        budget: of the hospital, read at the hospital.
        noise: where the noise comes from; a key of the operating system's if None.
    """
    if privacy is None or privacy.evaluation_epsilon is None:
        return None
    return NoisedRelease(hospital, budget, privacy.evaluation_epsilon, privacy.delta, noise)


def noised_validation(
    store: SiteStore,
    rows: SiteRows,
    model: nn.Module,
    release: NoisedRelease | None,
    *,
    run: str,
    prevalence: float,
) -> Validation:
    """Return how a run's model does on the site's validation rows, as noised counts tell.

    It is charged and released once per run; asked again it is the same, whatever the model.

    Args:
        store: the hospital's own.
        rows: of the run.
        model: with the run's weights.
        release: how it is noised; None withholds it.
        run: name of the run.
        prevalence: the cohort's public rate of label 1.

    Raises:
        BudgetExceededError, LedgerDamagedError: it cannot be paid for; no row was scored.
    """
    count = len(rows.validation.y)
    if release is None or not count:
        return WITHHELD

    def exact() -> Floats:
        scores = predict(model, rows.validation.X)
        return noised_scores.count_scores(rows.validation.y.numpy(), scores, prevalence)

    sums = release.sums(
        store,
        f"evaluation/{run}/validation/{rows.partitions}",
        exact,
        1.0,
        run=run,
        what=f"noised figures of validation rows, partitions {rows.partitions}",
    )
    found = noised_scores.figures(sums, count, prevalence)
    return Validation(count, found.log_loss, found.auroc, found.threshold)


def noised_test(
    store: SiteStore,
    manifest: partitions.PartitionManifest,
    preprocessor: Preprocessor,
    scorer: Callable[[NDArray[np.float32]], Floats],
    release: NoisedRelease,
    run: str,
) -> NoisedTest:
    """Return how a model does on the hospital's test rows, as noised counts tell.

    Counts by score and by age are one release: a patient is in one count of each, so its L2
    sensitivity is the root of 2. It is charged and made once per run, for one model; asked again
    it is the same.

    Args:
        store: the hospital's own.
        manifest: of the partitions, with at least one test row.
        preprocessor: makes the model's features.
        scorer: the model.
        release: how it is noised.
        run: that the model is from.

    Raises:
        BudgetExceededError, LedgerDamagedError: it cannot be paid for; no row was read.
    """
    spec, count, sensitivity = preprocessor.cohort, manifest.files["test"].rows, math.sqrt(2)
    prevalence = spec.label.prevalence

    def exact() -> Floats:
        frame = partitions.load_part(store, manifest, "test")
        y = frame[spec.label.column].to_numpy(dtype=np.float64)
        scores = scorer(preprocessor.transform(frame))
        ages = frame[spec.age_column].to_numpy(dtype=np.float64)
        by_score = noised_scores.count_scores(y, scores, prevalence)
        return np.concatenate([by_score, _count_ages(y, ages, spec)])

    sums = release.sums(
        store,
        f"evaluation/{run}/test/{manifest.version}",
        exact,
        sensitivity,
        run=run,
        what=f"noised figures of test rows, partitions {manifest.version}",
    )
    by_score, by_age = np.split(sums, [2 * BINS])
    return NoisedTest(
        evaluation=_evaluation(noised_scores.figures(by_score, count, prevalence)),
        age_only_auroc=noised_scores.auroc(by_age, count),
        noised=release.told(sensitivity),
    )


def _count_ages(y: Floats, ages: Floats, spec: CohortSpec) -> Floats:
    """Count rows by label and public bin of age; whose age is missing is among the youngest."""
    edges = next(c.bins for c in spec.numbers if c.name == spec.age_column)
    # Only the inner edges, so that the last bin holds its upper one.
    cells = np.searchsorted(edges[1:-1], np.nan_to_num(ages, nan=edges[0]), "right")
    return noised_scores.count_by_label(y, cells, len(edges) - 1)


def _evaluation(found: ScoreFigures) -> Evaluation:
    share = found.positives / found.rows
    return Evaluation(
        n=found.rows,
        positives=found.positives,
        auroc=found.auroc,
        auroc_low=None,
        auroc_high=None,
        auprc=None,
        auprc_low=None,
        auprc_high=None,
        sensitivity_at_80_specificity=found.sensitivity_at_80_specificity,
        threshold=None,
        sensitivity=None,
        specificity=None,
        accuracy=None,
        majority_rate=max(share, 1 - share),
        balanced_accuracy=None,
        brier=found.brier,
        log_loss=found.log_loss,
        ece=found.ece,
        roc=[],
        calibration=[],
    )

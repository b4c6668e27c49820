"""Evaluation at a site: a model on the hospital's untouched test rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fl_assets.cohorts.spec import CohortSpec
from fl_assets.config import StrictModel
from fl_assets.learning import metrics
from fl_assets.learning.baselines import Baseline, logistic_regression
from fl_assets.learning.configs import ModelConfig
from fl_assets.learning.evaluation import Evaluation, evaluate
from fl_assets.learning.features import Preprocessor
from fl_assets.learning.paired import PairedEvaluation, Scored, compare_pair
from fl_assets.privacy.noised_counts import Noised
from fl_assets.site import partitions
from fl_assets.site.egress import EgressLog
from fl_assets.site.noised_evaluation import noised_test
from fl_assets.site.noised_release import NoisedRelease
from fl_assets.site.personal import OwnModel, load_own_model
from fl_assets.storage import SiteStore

Scorer = Callable[[NDArray[np.float32]], NDArray[np.float64]]
"""From features [n, d] to probabilities [n]."""


class Subgroup(StrictModel):
    """How a model ranks within a group of patients.

    Attributes:
        n: test rows.
        auroc: None unless at least the floor's number of people have each label.
    """

    n: int
    auroc: float | None


class SiteEvaluation(StrictModel):
    """What a hospital says of a model.

    Attributes:
        partitions: version of the partitions behind it.
        evaluation: None where there are fewer test rows than the floor.
        age_only_auroc: of ranking the same rows by age, which any model should beat.
        subgroups: by column and group; groups below the floor are left out.
        personal: the model (a) beside the hospital's own of the same run (b), None where it has
            none or where the test rows are of one class.
        noised: how much noise was added; None of none. With noise there are neither subgroups nor
            a comparison with the hospital's own model.
    """

    partitions: str
    evaluation: Evaluation | None
    age_only_auroc: float | None
    subgroups: dict[str, dict[str, Subgroup]]
    personal: PairedEvaluation | None = None
    noised: Noised | None = None


def evaluate_model(
    store: SiteStore,
    preprocessor: Preprocessor,
    scorer: Scorer,
    *,
    threshold: float | None,
    minimum: int,
    run: str,
    personal: ModelConfig | None = None,
    noised: NoisedRelease | None = None,
) -> SiteEvaluation:
    """Evaluate a model on the hospital's test rows and log the release.

    Args:
        store: the hospital's.
        preprocessor: makes the model's features.
        scorer: the model.
        threshold: its operating point, chosen on other rows.
        minimum: smallest number of people that a released figure may stand for; the positives of
            the whole test part are the exception, an AUROC without them cannot be read. On fewer
            test rows no noise is spent either.
        run: who asked, for the egress log; with noise the run that the model is from.
        personal: what a hospital's own model of this run would be; where this hospital has one,
            it is compared. None where the run left none.
        noised: how noise is added; None of none.

    Raises:
        BudgetExceededError, LedgerDamagedError: noised figures cannot be paid for; no row was read.
    """
    manifest = partitions.load_manifest(store)
    found = SiteEvaluation(
        partitions=manifest.version, evaluation=None, age_only_auroc=None, subgroups={}
    )
    enough = manifest.files["test"].rows >= minimum
    if enough and noised is not None:
        told = noised_test(store, manifest, preprocessor, scorer, noised, run)
        found = SiteEvaluation(
            partitions=manifest.version,
            evaluation=told.evaluation,
            age_only_auroc=told.age_only_auroc,
            subgroups={},
            noised=told.noised,
        )
    elif enough:
        frame = partitions.load_part(store, manifest, "test")
        spec = preprocessor.cohort
        X, y = preprocessor.transform(frame), labels(frame, spec)
        scores = scorer(X)
        evaluation = evaluate(y, scores, threshold, minimum)
        own = load_own_model(store, run, personal, preprocessor) if personal else None
        found = SiteEvaluation(
            partitions=manifest.version,
            evaluation=evaluation,
            age_only_auroc=metrics.auroc(y, age_score(frame, spec)),
            subgroups=_subgroups(frame, y, scores, spec, minimum),
            personal=_beside(own, X, y, scores, evaluation) if own else None,
        )
    EgressLog(store).release("evaluation", run, found.model_dump_json().encode(), "test rows")
    return found


def _beside(
    own: OwnModel,
    X: NDArray[np.float32],
    y: NDArray[np.float64],
    scores: NDArray[np.float64],
    evaluation: Evaluation,
) -> PairedEvaluation | None:
    threshold = evaluation.threshold
    if threshold is None or evaluation.auroc is None:
        return None
    chosen = threshold if own.threshold is None else own.threshold
    return compare_pair(y, Scored(scores, threshold), Scored(own.scorer(X), chosen))


def labels(frame: pd.DataFrame, spec: CohortSpec) -> NDArray[np.float64]:
    """Return the label of every row, [n]."""
    return frame[spec.label.column].to_numpy(dtype=np.float64)


def age_score(frame: pd.DataFrame, spec: CohortSpec) -> NDArray[np.float64]:
    """Return age as a score in 0..1, [n]: a model that knows nothing else."""
    column = next(c for c in spec.numbers if c.name == spec.age_column)
    low, high = column.range
    return (frame[spec.age_column].fillna(low).to_numpy(dtype=np.float64) - low) / (high - low)


def _subgroups(
    frame: pd.DataFrame,
    y: NDArray[np.float64],
    scores: NDArray[np.float64],
    spec: CohortSpec,
    minimum: int,
) -> dict[str, dict[str, Subgroup]]:
    found: dict[str, dict[str, Subgroup]] = {}
    for column in spec.subgroups:
        found[column] = {}
        for group, rows in sorted(frame.groupby(column).indices.items(), key=lambda kv: str(kv[0])):
            positives = int(y[rows].sum())
            enough = min(positives, len(rows) - positives) >= minimum
            if len(rows) >= minimum:
                auroc = metrics.auroc(y[rows], scores[rows]) if enough else None
                found[column][str(group)] = Subgroup(n=len(rows), auroc=auroc)
    return found


def not_evaluated(store: SiteStore) -> SiteEvaluation:
    """Return what a hospital says of a model that does not exist."""
    return SiteEvaluation(
        partitions=partitions.load_manifest(store).version,
        evaluation=None,
        age_only_auroc=None,
        subgroups={},
    )


def fit_local(store: SiteStore, preprocessor: Preprocessor, seed: int) -> Baseline | None:
    """Fit the hospital's lower bound: logistic regression on its own rows alone.

    None where it has no training row.
    """
    manifest = partitions.load_manifest(store)
    if not manifest.files["train"].rows:
        return None
    spec = preprocessor.cohort
    train, validation = (
        partitions.load_part(store, manifest, part) for part in ("train", "validation")
    )
    return logistic_regression(
        preprocessor.transform(train),
        labels(train, spec),
        preprocessor.transform(validation),
        labels(validation, spec),
        seed,
    )

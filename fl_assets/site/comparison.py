"""Two models on the hospital's own test rows, which stay there."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from fl_assets.config import StrictModel
from fl_assets.learning.features import Preprocessor
from fl_assets.learning.paired import PairedEvaluation, Scored, compare_pair
from fl_assets.site import partitions
from fl_assets.site.egress import EgressLog
from fl_assets.site.evaluation import Scorer, labels
from fl_assets.storage import SiteStore


@dataclass(frozen=True)
class TrainedModel:
    """A model as a hospital scores it.

    Attributes:
        preprocessor: makes its features.
        scorer: the model.
        threshold: its operating point, chosen on other rows.
    """

    preprocessor: Preprocessor
    scorer: Scorer
    threshold: float

    def score(self, frame: pd.DataFrame) -> Scored:
        """Return the scores of rows."""
        return Scored(self.scorer(self.preprocessor.transform(frame)), self.threshold)


class SiteComparison(StrictModel):
    """What a hospital says of two models.

    Attributes:
        partitions: version of the partitions behind it.
        evaluation: None where there are fewer test rows than the floor.
    """

    partitions: str
    evaluation: PairedEvaluation | None


def compare_models(
    store: SiteStore, a: TrainedModel, b: TrainedModel, *, minimum: int, run: str
) -> SiteComparison:
    """Compare two models row by row on the hospital's test rows and log the release.

    Only metrics, their differences and intervals leave.

    Args:
        store: the hospital's.
        a, b: the models.
        minimum: smallest number of people that a released figure may stand for.
        run: who asked, for the egress log.
    """
    manifest = partitions.load_manifest(store)
    frame = partitions.load_part(store, manifest, "test")
    found = SiteComparison(partitions=manifest.version, evaluation=None)
    if len(frame) >= minimum:
        found = SiteComparison(partitions=manifest.version, evaluation=compare_rows(frame, a, b))
    EgressLog(store).release("evaluation", run, found.model_dump_json().encode(), "paired")
    return found


def compare_rows(frame: pd.DataFrame, a: TrainedModel, b: TrainedModel) -> PairedEvaluation:
    """Compare two models on rows."""
    y = labels(frame, a.preprocessor.cohort)
    return compare_pair(y, a.score(frame), b.score(frame))

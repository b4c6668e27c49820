"""Two models at one hospital: what is compared, and what may leave."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from fl_assets.learning.features import Preprocessor
from fl_assets.learning.metrics import Metric
from fl_assets.settings import Settings
from fl_assets.site import partitions
from fl_assets.site.comparison import TrainedModel, compare_models
from fl_assets.site.egress import EgressLog
from fl_assets.site.evaluation import labels


def models(settings: Settings) -> tuple[TrainedModel, TrainedModel]:
    preprocessor = Preprocessor.public(settings.cohort)
    age = preprocessor.feature_names.index(settings.cohort.age_column)
    by_age = TrainedModel(preprocessor, lambda X: 1 / (1 + np.exp(-X[:, age].astype(float))), 0.5)
    by_all = TrainedModel(preprocessor, lambda X: 1 / (1 + np.exp(-X.sum(1).astype(float))), 0.5)
    return by_age, by_all


def test_both_models_score_the_same_test_rows(world: Settings) -> None:
    store = world.site_store("hospital-a")
    a, b = models(world)
    found = compare_models(store, a, b, minimum=5, run="r")

    manifest = partitions.load_manifest(store)
    frame = partitions.load_part(store, manifest, "test")
    y = labels(frame, world.cohort)
    assert found.partitions == manifest.version
    assert found.evaluation is not None
    assert (found.evaluation.n, found.evaluation.positives) == (len(frame), y.sum())
    auroc = found.evaluation.metrics[Metric.AUROC]
    assert auroc.a == pytest.approx(roc_auc_score(y, a.score(frame).scores))
    assert auroc.b == pytest.approx(roc_auc_score(y, b.score(frame).scores))


def test_the_very_message_is_logged_and_too_few_people_say_nothing(world: Settings) -> None:
    store = world.site_store("hospital-a")
    found = compare_models(store, *models(world), minimum=10_000, run="r")
    assert found.evaluation is None
    entry = EgressLog(store).entries()[-1]
    assert (entry.kind, entry.run) == ("evaluation", "r")
    assert entry.size == len(found.model_dump_json())

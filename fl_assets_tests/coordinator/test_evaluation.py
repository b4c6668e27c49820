"""A personalised recipe from training to report: each hospital's own model beside the global."""

from __future__ import annotations

import dagster as dg
import numpy as np
import pytest
import yaml
from sklearn.metrics import roc_auc_score

from fl_assets import pipeline
from fl_assets.coordinator.evaluation import evaluate_release, load_evaluation
from fl_assets.coordinator.summary import POOLED, personal_table
from fl_assets.coordinator.training import load_release
from fl_assets.learning.features import Preprocessor
from fl_assets.learning.metrics import Metric
from fl_assets.settings import Settings
from fl_assets.site.partitions import load_manifest, load_part
from fl_assets.site.personal import load_personal
from fl_assets.tracking.runs import Tracking

TUNED = {
    "model": {"kind": "logistic_regression"},
    "optimizer": {"kind": "sgd", "lr": 0.03, "momentum": 0.9},
    "rounds": 2,
    "personalisation": {"kind": "fine_tuning", "epochs": 5, "lr": 0.1},
}


def own_scores(settings: Settings, run: str, hospital: str) -> tuple[list[float], list[float]]:
    """Labels and the own model's scores of a hospital's test rows, without torch."""
    store = settings.site_store(hospital)
    frame = load_part(store, load_manifest(store), "test")
    weights = load_personal(store, run)
    assert weights is not None
    X = Preprocessor.public(settings.cohort).transform(frame).astype(float)
    logits = X @ weights["0.weight"][0].astype(float) + float(weights["0.bias"][0])
    return frame["stroke"].tolist(), (1 / (1 + np.exp(-logits))).tolist()


def test_each_hospitals_own_model_is_compared_in_every_place(
    finished_world: Settings, instance: dg.DagsterInstance
) -> None:
    (finished_world.recipes / "small-tuned.yaml").write_text(yaml.safe_dump(TUNED))
    list(pipeline.run(finished_world, instance))

    release = load_release(finished_world.coordinator_store(), "small-tuned")
    found = load_evaluation(finished_world.coordinator_store(), "small-tuned")
    compared = set()
    for name in finished_world.consortium.hospital_names:
        y, scores = own_scores(finished_world, release.run, name)
        if 0 < sum(y) < len(y):
            compared.add(name)
            area = found.personal[name].metrics[Metric.AUROC]
            site = found.sites[name].evaluation
            assert site is not None
            assert area.a == site.auroc
            assert area.b == pytest.approx(roc_auc_score(y, scores), abs=1e-6)
            assert area.b != area.a
    assert set(found.personal) == compared
    assert len(compared) > 1

    table = personal_table(found)
    assert table is not None
    assert [row[0] for row in table.rows] == [*sorted(compared), POOLED]
    assert table.columns == ["hospital", "global AUROC", "personal AUROC", "difference [95 %]"]
    shown = found.personal[min(compared)].metrics[Metric.AUROC]
    assert table.rows[0][1:3] == [f"{shown.a:.3f}", f"{shown.b:.3f}"]
    assert str(table.rows[0][3]).startswith(f"{shown.difference:+.3f}")

    key = dg.AssetKey("federated_evaluation")
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=key, asset_partitions=["small-tuned"]), limit=1
    ).records
    (materialised,) = (record.asset_materialization for record in records)
    assert materialised is not None
    text = str(materialised.metadata["personal"].value)
    assert f"| {min(compared)} | {shown.a:.3f} | {shown.b:.3f} |" in text
    report = finished_world.coordinator_store().get("report.html").decode()
    assert report.count("personal AUROC") == 1

    client = Tracking(finished_world.tracking_uri, "any").client
    logged = client.get_run(release.mlflow_run).data.metrics
    assert logged[f"{min(compared)}/test/personal_auroc"] == pytest.approx(shown.b)


def test_without_personalisation_there_is_nothing_beside(finished_world: Settings) -> None:
    found = evaluate_release(finished_world, "small-lr")
    assert found.personal == {}
    assert personal_table(found) is None

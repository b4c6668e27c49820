"""Evaluation at the hospitals: noised figures; a personalised recipe from training to report."""

from __future__ import annotations

import dataclasses

import dagster as dg
import numpy as np
import pytest
import yaml
from sklearn.metrics import roc_auc_score

from fl_assets import pipeline
from fl_assets.coordinator.evaluation import (
    ModelEvaluation,
    evaluate_everywhere,
    evaluate_release,
    load_evaluation,
)
from fl_assets.coordinator.summary import evaluation_table, personal_table
from fl_assets.coordinator.training import load_release
from fl_assets.learning.configs import LogisticRegressionConfig
from fl_assets.learning.features import Preprocessor
from fl_assets.learning.metrics import Metric
from fl_assets.privacy.configs import PrivacyConfig
from fl_assets.privacy.ledger import BudgetExceededError, Ledger
from fl_assets.settings import Settings
from fl_assets.site.model_data import ModelData
from fl_assets.site.partitions import load_manifest, load_part
from fl_assets.site.personal import load_personal
from fl_assets.site.tasks.models import EvaluateModel
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
    told = [found.personal[name].metrics[Metric.AUROC].standard_error for name in compared]
    behind = sum(error is not None for error in told)
    assert [row[0] for row in table.rows] == [*sorted(compared), f"mean ({behind} of 3)"]
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


def by_age(settings: Settings, run: str, privacy: PrivacyConfig | None) -> EvaluateModel:
    """A logistic regression that knows nothing but age."""
    preprocessor = Preprocessor.public(settings.cohort)
    weight = np.zeros((1, len(preprocessor.feature_names)), np.float32)
    weight[0, preprocessor.feature_names.index("age")] = 1
    model = ModelData(
        config=LogisticRegressionConfig(),
        preprocessor=preprocessor,
        weights={"0.weight": weight, "0.bias": np.array([-3], np.float32)},
        threshold=0.1,
    )
    return EvaluateModel(run=run, model=model, privacy=privacy)


def test_noised_figures_have_no_exact_ones_beside_them(world: Settings) -> None:
    privacy = PrivacyConfig(epsilon=1.0, evaluation_epsilon=2.0)

    def evaluate(privacy: PrivacyConfig | None, run: str) -> ModelEvaluation:
        return evaluate_everywhere(world, "m", by_age(world, run, privacy))

    exact, noised = evaluate(None, "run-1"), evaluate(privacy, "run-1")
    assert exact.pooled is not None
    assert exact.noised is None
    assert "with noise" not in evaluation_table(exact).caption
    assert noised.pooled is None
    assert noised.noised is not None
    assert noised.noised.epsilon == 2.0
    assert "with noise: epsilon 2 at each hospital" in evaluation_table(noised).caption
    for name in world.consortium.hospital_names:
        one, other = exact.sites[name], noised.sites[name]
        assert other.subgroups == {}
        assert one.evaluation is not None
        assert other.evaluation is not None
        assert one.evaluation.n == other.evaluation.n
        assert one.evaluation.brier != other.evaluation.brier
        (entry,) = Ledger(world.site_store(name), name).entries()
        assert entry.act.run == "run-1"
    # Asked again they say the same, at no charge, although no noise would be the same.
    assert evaluate(privacy, "run-1") == noised
    assert evaluate(privacy, "run-2") != noised


def test_a_hospital_without_budget_refuses_its_figures(world: Settings) -> None:
    config = yaml.safe_load(world.consortium_file.read_text())
    config["hospitals"][1]["privacy_budget"] = {"epsilon": 0.5}
    world.consortium_file.write_text(yaml.safe_dump(config))
    settings = dataclasses.replace(world)
    privacy = PrivacyConfig(epsilon=1.0, evaluation_epsilon=1.0)
    with pytest.raises(BudgetExceededError, match=r"hospital-b: run r asks 1\.00"):
        evaluate_everywhere(settings, "m", by_age(settings, "r", privacy))


def test_without_personalisation_there_is_nothing_beside(finished_world: Settings) -> None:
    found = evaluate_release(finished_world, "small-lr")
    assert found.personal == {}
    assert personal_table(found) is None

"""Evaluation, comparison, promotion and report on a finished world."""

from __future__ import annotations

import dataclasses

import pandas as pd
import pytest
import yaml
from sklearn.metrics import roc_auc_score

from fl_assets.coordinator import baselines, documents, evaluation
from fl_assets.coordinator.comparison import compare, load_comparison, local_key
from fl_assets.coordinator.evaluation import evaluate_pooled, evaluate_release, load_evaluation
from fl_assets.coordinator.promotion import (
    NoCandidateError,
    check_gates,
    promote,
    try_champion,
)
from fl_assets.coordinator.simulation import upload
from fl_assets.coordinator.summary import comparison_table, hospital_table, write_report
from fl_assets.coordinator.training import load_release, ready_sites
from fl_assets.learning.features import Preprocessor
from fl_assets.learning.metrics import Metric
from fl_assets.settings import Settings
from fl_assets.site import intake, partitions
from fl_assets.site.evaluation import SiteEvaluation, labels
from fl_assets.site.pooling import NotSimulatedError, pooled
from fl_assets.tracking.models import CANDIDATE, CHAMPION, Registry
from fl_assets.tracking.runs import Tracking


def registry(settings: Settings) -> Registry:
    tracking = Tracking(settings.tracking_uri, settings.consortium.name)
    return Registry(tracking, settings.model_name)


def real(settings: Settings) -> Settings:
    """The same consortium, which now says that it is real."""
    config = yaml.safe_load(settings.consortium_file.read_text())
    settings.consortium_file.write_text(yaml.safe_dump(config | {"simulated": False}))
    return dataclasses.replace(settings)


def test_the_served_champion_scores_the_test_rows_as_the_evaluation_says(
    finished_world: Settings,
) -> None:
    """Registry, preprocessing and weights against the stored figure, through scikit-learn."""
    champion = registry(finished_world).alias(CHAMPION)
    assert champion is not None
    stores = {n: finished_world.site_store(n) for n in ready_sites(finished_world)}
    frame = pooled(finished_world.consortium, stores, "test")
    columns = frame[finished_world.cohort.column_names]
    columns = columns.astype({"hypertension": "int64", "heart_disease": "int64"})

    scores = registry(finished_world).load(CHAMPION).predict(columns)["probability"]

    stored = load_evaluation(finished_world.coordinator_store(), champion.tags["recipe"]).pooled
    assert stored is not None
    y = labels(frame, finished_world.cohort)
    assert roc_auc_score(y, scores) == pytest.approx(stored.auroc)


def test_a_mean_over_hospitals_leaves_out_what_does_not_exist(finished_world: Settings) -> None:
    found = load_evaluation(finished_world.coordinator_store(), "small-lr")
    present = [
        (site.evaluation.auroc, site.evaluation.n)
        for site in found.sites.values()
        if site.evaluation is not None and site.evaluation.auroc is not None
    ]
    expected = sum(a * n for a, n in present) / sum(n for _, n in present)
    assert found.mean(Metric.AUROC) == pytest.approx(expected)


def test_evaluating_again_gives_the_same_document(finished_world: Settings) -> None:
    before = load_evaluation(finished_world.coordinator_store(), "small-lr")
    assert evaluate_release(finished_world, "small-lr").fingerprint == before.fingerprint


def test_the_tables_have_a_row_per_model_and_accuracy_beside_the_majority(
    finished_world: Settings,
) -> None:
    comparison = load_comparison(finished_world.coordinator_store())
    table = comparison_table(comparison)
    assert len(table.rows) == len(comparison.models)
    accuracy = table.columns.index("accuracy")
    assert table.columns[accuracy + 1] == "majority rate"
    by_hospital = hospital_table(comparison)
    assert [c.split(" ")[0] for c in by_hospital.columns[1:]] == list(comparison.hospitals)
    assert all("positive" in column for column in by_hospital.columns[1:])


def test_the_best_on_validation_is_promoted_and_both_aliases_point_to_it(
    finished_world: Settings,
) -> None:
    models = load_comparison(finished_world.coordinator_store()).of_kind("federated")
    best = max(models, key=lambda m: m.evaluation.validation_auroc or 0).evaluation

    decision = promote(finished_world)

    assert decision.promoted
    assert decision.candidate.recipe.name == best.model
    for alias in (CANDIDATE, CHAMPION):
        version = registry(finished_world).alias(alias)
        assert version is not None
        assert str(version.version) == best.version
    assert version.description is not None
    assert "No clinical validation" in version.description
    assert 0 <= try_champion(finished_world) <= 1


def test_gates_read_the_data_anew(finished_world: Settings) -> None:
    """A model whose hospital has new partitions since is not promoted."""
    store = finished_world.site_store("hospital-b")
    rows = partitions.load_part(store, partitions.load_manifest(store), "train")
    upload(store, rows, finished_world.cohort)
    intake.collect_records(store, finished_world.cohort)
    partitions.build_partitions(store, finished_world.cohort, finished_world.consortium.split)

    decision = promote(finished_world)

    assert not decision.promoted
    assert [g.gate for g in decision.gates if not g.passed] == ["trained on current partitions"]
    failed = next(g for g in decision.gates if not g.passed)
    assert failed.found == "changed at hospital-b"


def test_a_metric_that_does_not_exist_passes_no_gate(finished_world: Settings) -> None:
    release = load_release(finished_world.coordinator_store(), "small-lr")
    found = load_evaluation(finished_world.coordinator_store(), "small-lr")
    nothing = {
        name: site.model_copy(update={"evaluation": None}) for name, site in found.sites.items()
    }
    gates = check_gates(finished_world, release, found.model_copy(update={"sites": nothing}))
    missing = [g for g in gates if g.found == "not available"]
    assert len(missing) == 3
    assert not any(g.passed for g in missing)


def test_nothing_trained_nothing_promoted(world: Settings) -> None:
    real_world = real(world)
    empty = SiteEvaluation(partitions="p", evaluation=None, age_only_auroc=None, subgroups={})
    for name in ready_sites(real_world):
        documents.save(real_world.coordinator_store(), local_key(name), empty)
    compare(real_world)
    with pytest.raises(NoCandidateError):
        promote(real_world)


def test_on_a_real_consortium_nothing_is_pooled(finished_world: Settings) -> None:
    real_world = real(finished_world)
    with pytest.raises(NotSimulatedError):
        baselines.fit_centralised(real_world)
    preprocessor = Preprocessor.public(real_world.cohort)
    stores = {name: real_world.site_store(name) for name in ready_sites(real_world)}
    with pytest.raises(NotSimulatedError):
        evaluate_pooled(real_world, stores, preprocessor, lambda X: X[:, 0], None)

    for recipe in ("small-lr", "small-mlp"):
        assert evaluation.evaluate_release(real_world, recipe).pooled is None
    comparison = compare(real_world)
    assert {model.kind for model in comparison.models} == {"local", "federated"}
    assert all(model.evaluation.pooled is None for model in comparison.models)
    assert "mean over the test rows of its hospitals" in comparison_table(comparison).caption


def test_the_report_is_one_file_with_every_recipe(finished_world: Settings) -> None:
    html = write_report(finished_world)
    for text in ("small-lr", "small-mlp", "age_only", "Promotion gates", "data:image/png;base64,"):
        assert text in html
    assert "http://" not in html.replace("http://www.w3.org", "")


def test_a_model_of_older_test_rows_is_left_out_and_named(finished_world: Settings) -> None:
    store = finished_world.site_store("hospital-b")
    manifest = partitions.load_manifest(store)
    parts = [partitions.load_part(store, manifest, part) for part in ("train", "test")]
    upload(store, pd.concat([*parts[:1], parts[1].iloc[1:]]), finished_world.cohort)
    intake.collect_records(store, finished_world.cohort)
    partitions.build_partitions(store, finished_world.cohort, finished_world.consortium.split)
    evaluate_release(finished_world, "small-lr")

    comparison = compare(finished_world)

    assert [m.evaluation.model for m in comparison.of_kind("federated")] == ["small-lr"]
    assert "small-mlp" in comparison.left_out
    assert "logistic_regression" in comparison.left_out
    assert "small-mlp" in comparison_table(comparison).caption

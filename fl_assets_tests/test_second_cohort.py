"""The example of a second cohort from uploads to a champion, without a line of Python for it.

Beside a hospital with patients of both kinds there is one with ill patients alone and one with a
single patient: what cannot be computed there must be called so everywhere.
"""

from __future__ import annotations

import gzip
import re
import shutil
import warnings
from pathlib import Path

import pytest
import yaml

from fl_assets import pipeline
from fl_assets.cohorts.scoring import read_features
from fl_assets.coordinator import documents
from fl_assets.coordinator.catalogue import catalogue
from fl_assets.coordinator.comparison import Comparison, load_comparison
from fl_assets.coordinator.decision import KEY as PROMOTION
from fl_assets.coordinator.decision import Promotion
from fl_assets.coordinator.evaluation import ModelEvaluation, load_evaluation
from fl_assets.coordinator.pair import compare_recipes, pair_tables
from fl_assets.coordinator.prediction import score
from fl_assets.coordinator.status import consortium_status
from fl_assets.coordinator.summary import comparison_table, evaluation_table, hospital_table
from fl_assets.coordinator.training import load_release
from fl_assets.learning.metrics import Metric
from fl_assets.settings import Settings
from fl_assets.site import partitions
from fl_assets.tracking.models import CANDIDATE, CHAMPION, Registry
from fl_assets.tracking.runs import Tracking
from fl_assets_tests.cohorts.heart import EXAMPLE
from fl_assets_tests.world import dagster_instance, settings_of

NAMES = ("north", "ill", "alone")
RECIPE = {
    "model": {"kind": "logistic_regression"},
    "optimizer": {"kind": "sgd", "lr": 0.1},
    "preprocessor": "moments",
    "rounds": 2,
}
# These exist only where both classes do.
RANKING = (
    Metric.AUROC,
    Metric.AUROC_LOW,
    Metric.AUROC_HIGH,
    Metric.AUPRC,
    Metric.AUPRC_LOW,
    Metric.AUPRC_HIGH,
    Metric.SENSITIVITY_AT_80_SPECIFICITY,
    Metric.SPECIFICITY,
)


@pytest.fixture(scope="module")
def trained(_empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The chain of `fla demo` on a smaller copy of the example."""
    home = tmp_path_factory.mktemp("heart")
    shutil.copy(EXAMPLE / "cohort.yaml", home)
    shutil.copyfile(_empty_database, home / "mlflow.db")
    consortium = yaml.safe_load((EXAMPLE / "consortium.yaml").read_text())
    consortium["hospitals"] = [{"name": name} for name in NAMES]
    consortium["routine"] = ["lr"]
    consortium["promotion"] = {"min_auroc": 0.5, "max_ece": 1.0, "min_gain_over_age_only": -1.0}
    # On so few rows the attack on the control shows little more than chance.
    consortium["promotion"]["max_membership_auc"] = 0.55
    (home / "consortium.yaml").write_text(yaml.safe_dump(consortium))
    (home / "recipes").mkdir()
    (home / "recipes" / "lr.yaml").write_text(yaml.safe_dump(RECIPE))
    settings = settings_of(home)
    north = (EXAMPLE / "uploads" / "north.data").read_bytes()
    lines = north.splitlines(keepends=True)
    ill = [line for line in lines if not line.rstrip().endswith(b",0")]
    semicolons = lines[3].replace(b",", b";").replace(b"\n", b"\r\n")
    uploads = {"north": north, "ill": gzip.compress(b"".join(ill[:40])), "alone": semicolons}
    for name, data in uploads.items():
        settings.site_store(name).put("incoming/patients.csv", data)
    with warnings.catch_warnings(), dagster_instance(home) as instance:
        warnings.simplefilter("ignore")
        outcomes = list(pipeline.run(settings, instance))
    assets = {asset for outcome in outcomes for asset in outcome.step.assets}
    assert not assets & {"raw_dataset", "validated_dataset", "hospital_uploads"}
    return settings


@pytest.fixture(scope="module")
def evaluated(trained: Settings) -> ModelEvaluation:
    return load_evaluation(trained.coordinator_store(), "lr")


@pytest.fixture(scope="module")
def compared(trained: Settings) -> Comparison:
    return load_comparison(trained.coordinator_store())


def test_the_hospitals_are_as_these_tests_want_them(trained: Settings) -> None:
    parts = {name: partitions.load_manifest(trained.site_store(name)) for name in NAMES}
    train = partitions.load_part(trained.site_store("ill"), parts["ill"], "train")
    assert set(train[trained.cohort.label.column]) == {1}
    assert {part: file.rows for part, file in parts["alone"].files.items()} == {
        "train": 0,
        "validation": 0,
        "test": 1,
    }


def test_what_does_not_exist_is_none(evaluated: ModelEvaluation) -> None:
    assert evaluated.sites["alone"].evaluation is None
    ill, north = evaluated.sites["ill"].evaluation, evaluated.sites["north"].evaluation
    assert ill is not None
    assert north is not None
    assert ill.positives == ill.n
    assert [getattr(ill, metric) for metric in RANKING] == [None] * len(RANKING)
    assert ill.roc == []
    assert evaluated.sites["ill"].age_only_auroc is None
    groups = evaluated.sites["ill"].subgroups.values()
    assert {group.auroc for found in groups for group in found.values()} <= {None}
    assert north.auroc is not None
    assert 0 < north.auroc < 1


def test_means_leave_it_out_and_say_over_how_many(
    trained: Settings, evaluated: ModelEvaluation, compared: Comparison
) -> None:
    north = evaluated.sites["north"].evaluation
    for metric in RANKING:
        assert evaluated.mean(metric) == pytest.approx(getattr(north, metric))
        assert evaluated.behind(metric) == 1
    assert evaluated.behind(Metric.BRIER) == 2
    (row,) = [row for row in comparison_table(compared).rows if row[0] == "lr"]
    auroc, auprc, brier = row[2], row[3], row[5]
    assert str(auroc).endswith(" (1 of 3)")
    assert str(auprc).endswith(" (1 of 3)")
    assert str(brier).endswith(" (2 of 3)")
    decision = documents.load(trained.coordinator_store(), PROMOTION, Promotion)
    gates = {gate.gate for gate in decision.gates}
    assert "AUROC, mean over 1 of 3 hospitals" in gates
    assert "calibration error, mean over 2 of 3 hospitals" in gates
    status = consortium_status(trained).tables()[1].rows
    assert str(status[0][4]).endswith(" (1)")
    assert catalogue(trained)[0].hospitals_behind_auroc == 1


def test_tables_say_so(evaluated: ModelEvaluation, compared: Comparison) -> None:
    shown = {str(row[0]): list(row[1:]) for row in hospital_table(compared).rows}
    assert shown["ill alone"] == ["n/a", "n/a", "n/a"]
    assert shown["alone alone"] == ["n/a", "n/a", "n/a"]
    assert re.fullmatch(r"0\.\d+ \[0\.\d+, 0\.\d+\]", str(shown["lr"][0]))
    assert shown["lr"][1:] == ["n/a", "n/a"]
    rows = {str(row[0]): list(row[1:]) for row in evaluation_table(evaluated).rows}
    assert rows["alone"] == ["too few", *["n/a"] * (len(rows["north"]) - 1)]
    assert rows["ill"][2:5] == ["n/a", "n/a", "n/a"]


def test_mlflow_has_no_figure_for_it(trained: Settings) -> None:
    release = load_release(trained.coordinator_store(), "lr")
    tracking = Tracking(trained.tracking_uri, trained.consortium.name)
    metrics = tracking.client.get_run(release.mlflow_run).data.metrics
    assert "north/test/auroc" in metrics
    assert not [name for name in metrics if name.startswith("alone/")]
    assert {f"ill/test/{metric}" for metric in RANKING}.isdisjoint(metrics)
    assert metrics["test/hospitals_behind_auroc"] == 1.0
    assert metrics["test/auroc"] == metrics["north/test/auroc"]


def test_card_and_report_say_so(trained: Settings) -> None:
    tracking = Tracking(trained.tracking_uri, trained.consortium.name)
    version = Registry(tracking, trained.model_name).alias(CANDIDATE)
    assert version is not None
    card = str(version.description)
    assert "Mean AUROC over 1 of 3 hospitals" in card
    assert "| alone | too few | n/a | n/a | n/a | n/a |" in card
    assert re.search(r"\| ill \| (\d+) \| \1 \| n/a \|", card)
    assert " (1 of 3)" in trained.coordinator_store().get("report.html").decode()


def test_a_comparison_of_two_recipes_says_so(trained: Settings) -> None:
    metrics, hospitals = pair_tables(compare_recipes(trained, "lr", "lr"))
    assert [row[0] for row in metrics.rows][:2] == ["AUROC (1 of 3)", "AUPRC (1 of 3)"]
    shown = {str(row[0]): list(row[3:]) for row in hospitals.rows}
    assert shown["ill"] == ["n/a", "n/a", "n/a"]
    assert shown["alone"] == [None, None, "too few test rows"]
    assert shown["mean (1 of 3)"] == shown["north"]


def test_the_champion_scores_a_file_without_ids(trained: Settings) -> None:
    data = (EXAMPLE / "uploads" / "practice.csv").read_bytes()
    scored = score(trained, read_features(data, trained.cohort, "practice.csv"), CHAMPION)
    assert list(scored.columns) == ["probability", "above_threshold"]
    assert len(scored) == len(data.splitlines())
    assert scored["probability"].between(0, 1).all()
    assert scored["probability"].nunique() > 10


def test_a_hospital_without_training_rows_is_evaluated_only(trained: Settings) -> None:
    release = load_release(trained.coordinator_store(), "lr")
    assert set(release.hospitals) == {"north", "ill"}

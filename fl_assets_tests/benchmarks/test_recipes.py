import json

import pytest
import yaml
from typer.testing import CliRunner

from benchmarks.recipes import LOST_CALIBRATION, app
from benchmarks.setting import RECIPES

FOLDS = 2
SHORT = {"rounds": 2, "local_epochs": 1}


@pytest.fixture(scope="module")
def command(small_csv, tmp_path_factory):
    """Two folds of three short recipes: a plain one, one that loses calibration, a personal one."""
    folder = tmp_path_factory.mktemp("recipes")
    for name in ("fedavg-lr", "weighted-lr", "finetuned-mlp"):
        recipe = yaml.safe_load((RECIPES / f"{name}.yaml").read_text())
        rounds = {"rounds": 20} if name == "weighted-lr" else SHORT
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(recipe | rounds))
    options = {"--data": small_csv, "--recipes": folder, "--folds": FOLDS, "--workers": 1}
    return [str(word) for option in options.items() for word in option]


@pytest.fixture(scope="module")
def result(command):
    return CliRunner().invoke(app, [*command, "--format", "json"], catch_exceptions=False)


@pytest.fixture(scope="module")
def rows(result):
    return {row["method"]: row for row in json.loads(result.stdout)["rows"]}


def test_every_recipe_stands_beside_the_references(rows):
    assert list(rows) == [
        "majority class",
        "age only",
        "centralised LR",
        "fedavg-lr",
        "finetuned-mlp",
        "finetuned-mlp, own models",
        "weighted-lr",
    ]
    assert rows["majority class"]["figures"]["auroc"]["mean"] == 0.5
    assert rows["centralised LR"]["gap"]["mean"] == 0
    for row in rows.values():
        assert row["figures"]["auroc"]["n"] == FOLDS
        assert row["worst"]["low"] <= row["worst"]["auroc"] <= row["worst"]["high"]
    own, shared = rows["finetuned-mlp, own models"], rows["finetuned-mlp"]
    assert own["figures"]["auroc"] != shared["figures"]["auroc"]


def test_a_model_that_gains_nothing_and_a_lost_calibration_are_named(rows):
    for method, row in rows.items():
        lost = row["figures"]["ece"]["mean"] > LOST_CALIBRATION
        federated = method not in ("majority class", "age only", "centralised LR")
        assert ("calibration destroyed" in row["remark"]) == (lost and federated)
        assert ("the regression" in row["remark"]) == federated
    assert "calibration destroyed" in rows["weighted-lr"]["remark"]


def test_the_bars_are_of_the_best_regression_and_the_best_network(result, rows):
    regression, network = json.loads(result.stdout)["bars"]
    best = max(("fedavg-lr", "weighted-lr"), key=lambda m: rows[m]["figures"]["auroc"]["mean"])
    assert best in regression["name"]
    assert regression["figure"] == pytest.approx(rows[best]["gap"]["mean"])
    assert network["figure"] == rows["finetuned-mlp"]["figures"]["auroc"]["mean"]
    assert result.exit_code == (0 if regression["passed"] and network["passed"] else 1)


def test_nothing_is_cut_off_in_the_tables(command):
    shown = CliRunner().invoke(app, command, catch_exceptions=False).stdout
    assert "…" not in shown
    assert shown.count("finetuned-mlp, own models") == 2

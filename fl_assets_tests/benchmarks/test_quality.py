import json

import pytest
import yaml
from typer.testing import CliRunner

from benchmarks.bars import Bar
from benchmarks.comparison import Difference, spread
from benchmarks.methods import FEDAVG, FEDAVG_MLP, FEDPROX
from benchmarks.quality import app
from benchmarks.setting import RECIPES
from fl_assets.learning.intervals import paired_difference


@pytest.fixture(scope="module")
def command(small_csv, tmp_path_factory):
    """Two folds and short recipes."""
    folder = tmp_path_factory.mktemp("recipes")
    for name in (FEDAVG, FEDAVG_MLP, FEDPROX):
        recipe = yaml.safe_load((RECIPES / f"{name}.yaml").read_text())
        text = yaml.safe_dump(recipe | {"rounds": 2, "local_epochs": 1})
        (folder / f"{name}.yaml").write_text(text)
    options = {"--data": small_csv, "--recipes": folder, "--folds": 2, "--repeats": 1}
    options["--workers"] = 1
    return [str(word) for option in options.items() for word in option]


@pytest.fixture(scope="module")
def result(command):
    return CliRunner().invoke(app, [*command, "--format", "json"], catch_exceptions=False)


@pytest.fixture(scope="module")
def document(result):
    return json.loads(result.stdout)


def test_every_method_has_figures_on_the_same_folds(document):
    assert document["seeds"] == [0]
    assert len(document["folds_run"]) == 2
    for fold in document["folds_run"]:
        assert list(fold["pooled"]) == [
            "majority class",
            "age only",
            "centralised LR",
            "centralised LR, no flag",
            "gradient boosting",
            "centralised MLP",
            "hospital-a alone",
            "hospital-b alone",
            "hospital-c alone",
            "fedavg-lr",
            "fedavg-lr, no flag",
            "fedavg-mlp",
            "fedprox-mlp",
        ]
        nobody = fold["pooled"]["majority class"]
        assert nobody["auroc"] == 0.5
        assert nobody["accuracy"] == nobody["majority_rate"]
        for method in ("age only", "centralised LR", "fedavg-lr"):
            assert 0.6 < fold["pooled"][method]["auroc"] < 1
        assert set(fold["own"]["fedavg-lr"]) == set(fold["positives"])


def test_differences_are_paired_fold_by_fold(document):
    folds = document["folds_run"]
    for found in document["differences"]:
        a, b = (
            [
                fold["pooled"][found[side]]["auroc"]
                if found["where"] == "pooled"
                else fold["own"][found[side]][found["where"]]
                for fold in folds
            ]
            for side in "ab"
        )
        gaps = [x - y for x, y in zip(a, b, strict=True)]
        assert found["mean"] == pytest.approx(sum(gaps) / 2)
    asked = {(found["a"], found["b"], found["where"]) for found in document["differences"]}
    assert ("fedavg-lr", "hospital-b alone", "hospital-b") in asked
    assert ("fedprox-mlp", "centralised LR", "pooled") in asked


def test_the_exit_code_says_whether_every_bar_holds(document, result):
    bars = document["bars"]
    assert len(bars) == 7
    assert result.exit_code == (0 if all(bar["passed"] for bar in bars) else 1)
    by_name = {bar["name"]: bar for bar in bars}
    aurocs = [fold["pooled"]["centralised LR"]["auroc"] for fold in document["folds_run"]]
    assert by_name["AUROC of centralised LR"]["figure"] == pytest.approx(sum(aurocs) / 2)


def test_the_table_shows_every_bar_and_hospital(command):
    shown = CliRunner().invoke(app, command, catch_exceptions=False).stdout
    assert shown.count("pass  ") + shown.count("FAIL  ") == 7
    for name in ("hospital-a", "hospital-b", "hospital-c"):
        assert f"fedavg-lr minus {name} alone" in shown
        assert f"{name}'s own" in shown
    assert "…" not in shown


@pytest.mark.parametrize(
    ("a", "verdict"),
    [
        ([0.85, 0.86, 0.87], "gain"),
        ([0.81, 0.82, 0.83], "no gain shown"),
        ([0.70, 0.71, 0.72], "loss"),
        ([0.90], "no gain shown"),
    ],
)
def test_a_gain_is_claimed_only_where_the_interval_excludes_zero(a, verdict):
    b = [0.80, 0.82, 0.83][: len(a)]
    assert Difference("a", "b", "pooled", paired_difference(a, b)).verdict == verdict


def test_a_bar_holds_at_its_limit_and_not_without_a_figure():
    assert Bar("floor", 0.84, 0.84).passed
    assert not Bar("floor", 0.8399, 0.84).passed
    assert Bar("ceiling", 0.02, 0.02, at_most=True).passed
    assert not Bar("ceiling", 0.0201, 0.02, at_most=True).passed
    assert not Bar("floor", float("nan"), 0.84).passed
    assert not Bar("ceiling", float("nan"), 0.02, at_most=True).passed


def test_a_spread_leaves_out_folds_without_the_figure():
    assert str(spread([0.8, None, 0.9])) == "0.850 ± 0.071"
    assert spread([0.8, None, 0.9]).n == 2
    assert spread([None]) is None
    assert str(spread([0.8])) == "0.800"

import json

import pytest
from typer.testing import CliRunner

from benchmarks.secure_sums import RECIPES, Cost, app, costs_table


@pytest.fixture(scope="module")
def result(small_csv):
    asked = ["--data", small_csv, "--sites", 3, "--rounds", 1, "--format", "json"]
    return CliRunner().invoke(app, list(map(str, asked)), catch_exceptions=False)


def test_every_recipe_is_timed_with_masks_and_without(result):
    document = json.loads(result.stdout)
    assert [(cost["recipe"], cost["sites"]) for cost in document["costs"]] == [
        (recipe, 3) for recipe in RECIPES
    ]
    for cost in document["costs"]:
        assert cost["ratio"] == pytest.approx(cost["masked"] / cost["plain"])
        assert cost["masked_sent"] > cost["sent"] > 0
        # Eight bytes in place of four.
        assert cost["masked_received"] > 1.5 * cost["received"] > 0
        assert cost["difference"] > 0
    assert result.exit_code == 0


def test_a_model_that_differs_ends_with_exit_code_1(small_csv, monkeypatch):
    monkeypatch.setattr("benchmarks.secure_sums.GOAL", 0.0)
    monkeypatch.setattr("benchmarks.secure_sums.RECIPES", RECIPES[:1])
    asked = ["--data", str(small_csv), "--sites", "3", "--rounds", "1"]
    found = CliRunner().invoke(app, asked, catch_exceptions=False)
    assert found.exit_code == 1
    assert "FAIL" in found.stdout


def test_a_row_says_what_a_site_pays():
    found = costs_table([Cost("fedavg-lr", 10, 0.2, 0.5, 1000, 3000, 1000, 9000, 0.0)])
    cells = [next(iter(column.cells)) for column in found.columns]
    assert cells == ["fedavg-lr", "10", "0.200", "0.500", "2.50", "0.0300", "1 / 1", "3 / 9"]

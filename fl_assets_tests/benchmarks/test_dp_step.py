import json
from statistics import median

import pytest
from typer.testing import CliRunner

from benchmarks.dp_step import MODELS, app

TINY = ["--batch", "40", "--steps", "2", "--turns", "3"]


@pytest.fixture(scope="module")
def result():
    return CliRunner().invoke(app, [*TINY, "--format", "json"], catch_exceptions=False)


def test_the_sums_agree_and_the_ratios_are_those_of_the_times(result):
    document = json.loads(result.stdout)
    assert document["models"].keys() == MODELS.keys()
    bars = {bar["name"]: bar for bar in document["bars"]}
    assert len(bars) == 3 * len(MODELS)
    for name, found in document["models"].items():
        assert 0 < found["apart"] < 1e-12
        assert bars[f"{name}: difference of the clipped sums"]["passed"]
        ours, plain = found["seconds"]["ours"], found["seconds"]["plain"]
        ratios = [a / b for a, b in zip(ours, plain, strict=True)]
        assert bars[f"{name}: DP step over plain step"]["figure"] == median(ratios)
        ratios = [a / b for a, b in zip(found["seconds"]["opacus"], ours, strict=True)]
        assert bars[f"{name}: Opacus' step over DP step"]["figure"] == median(ratios)


def test_the_exit_code_says_whether_every_bar_holds(result):
    passed = all(bar["passed"] for bar in json.loads(result.stdout)["bars"])
    assert result.exit_code == (0 if passed else 1)


def test_the_table_is_not_cut_off():
    shown = CliRunner().invoke(app, TINY, catch_exceptions=False).stdout
    assert "…" not in shown
    assert shown.count("pass  ") + shown.count("FAIL  ") == 3 * len(MODELS)

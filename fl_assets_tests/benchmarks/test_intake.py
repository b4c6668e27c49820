import json

import pandas as pd
import pytest
from typer.testing import CliRunner

from benchmarks.intake import GROWTH, MEMORY, ONE_SHOT, OURS, SPEED, Found, app, judge, write_rows
from fl_assets.cohorts.spec import load_cohort


@pytest.fixture(scope="module")
def document():
    arguments = ["--rows", "2000", "--turns", "1", "--format", "json"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    document = json.loads(result.stdout)
    passed = all(bar["passed"] for bar in document["bars"])
    assert result.exit_code == (0 if passed else 1)
    return document


def test_both_sides_do_the_same(document):
    sides = document["rows"]["2000"]
    assert sides[OURS]["rows"] == sides[ONE_SHOT]["rows"]
    rows = sides[OURS]["rows"]
    assert rows["records"] + rows["quarantine"] + rows["duplicates"] == 2000
    assert rows["train"] + rows["validation"] + rows["test"] == rows["records"]
    assert 5 < rows["quarantine"] < 60
    assert 5 < rows["duplicates"] < 60
    for side in sides.values():
        assert side["seconds"] > 0
        assert 50 < side["peak"] < MEMORY
    assert sum(sides[OURS]["stages"].values()) == pytest.approx(sides[OURS]["seconds"])


def test_rows_are_those_of_a_hospital(tmp_path):
    spec = load_cohort("stroke")
    write_rows(tmp_path / "a.csv", 3000, spec, 1)
    write_rows(tmp_path / "b.csv", 3000, spec, 1)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    frame = pd.read_csv(tmp_path / "a.csv", dtype=str, keep_default_na=False)
    assert list(frame) == spec.file_columns
    assert len(frame) == 3000
    assert frame["id"].duplicated().mean() == pytest.approx(0.01, abs=0.006)
    assert (frame["bmi"] == "N/A").mean() == pytest.approx(0.04, abs=0.02)


def test_bars():
    def found(seconds, peak, rows=1):
        return Found(seconds, peak, {"records": rows}, {})

    sides = {
        100: {OURS: found(1, 50), ONE_SHOT: found(2, 100)},
        1000: {OURS: found(20, 3000), ONE_SHOT: found(80, 100, rows=2)},
        2000: {OURS: found(30, 1000)},
    }
    bars = {bar.name: (bar.figure, bar.limit, bar.passed) for bar in judge(sides)}
    assert bars == {
        "100 rows: times as fast as one shot": (2, SPEED, False),
        "1,000 rows: times as fast as one shot": (4, SPEED, True),
        "2,000 rows: peak memory, MiB": (1000, MEMORY, True),
        "both sides count the same rows": (0, 1, False),
        "seconds per row, 2,000 to 100 rows": (1.5, GROWTH, False),
    }

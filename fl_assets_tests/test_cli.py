"""``fla`` as a person and a program call it: real processes' exit codes, text and JSON."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pandas as pd
import pytest

from fl_assets import cli
from fl_assets.cohorts.synthetic import generate
from fl_assets.settings import Settings


class Result:
    """What a call left behind."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


class Fla:
    """Calls the command line over a world."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def over(self, settings: Settings) -> Fla:
        for name, value in {
            "FLA_HOME": settings.home,
            "FLA_CONSORTIUM": settings.consortium_file,
            "FLA_RECIPES": settings.recipes,
            "FLA_SYNTHETIC_ROWS": settings.synthetic_rows,
            "MLFLOW_TRACKING_URI": settings.tracking_uri,
            "DAGSTER_HOME": settings.home / "dagster",
        }.items():
            self._monkeypatch.setenv(name, str(value))
        self._monkeypatch.delenv("DATA", raising=False)
        return self

    def __call__(self, *arguments: str) -> Result:
        self._monkeypatch.setattr("sys.argv", ["fla", *arguments])
        with pytest.raises(SystemExit) as left:
            cli.main()
        captured = self._capsys.readouterr()
        code = left.value.code
        return Result(
            code if isinstance(code, int) else int(bool(code)), captured.out, captured.err
        )


@pytest.fixture
def fla(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Fla:
    return Fla(monkeypatch, capsys)


@pytest.fixture
def patients(tmp_path: Path, world: Settings) -> Path:
    file = tmp_path / "patients.csv"
    generate(world.cohort, 40, seed=9).to_csv(file, index=False)
    return file


def test_help_names_every_command(fla: Fla) -> None:
    result = fla("--help")
    assert result.code == 0
    for command in ("demo", "validate", "status", "compare", "predict", "dev"):
        assert command in result.out


def test_demo_reports_what_it_skipped_the_champion_and_the_report(
    fla: Fla, finished_world: Settings
) -> None:
    result = fla.over(finished_world)("demo")

    assert result.code == 0, result.err
    assert "up to date" in result.err
    assert "small-lr" in result.out
    assert "age_only" in result.out
    assert "champion   test-consortium-stroke-risk version" in result.out
    assert "steps were up to date and skipped" in result.out
    assert (finished_world.home / "coordinator" / "report.html").is_file()


def test_demo_as_json_lists_every_step(fla: Fla, finished_world: Settings) -> None:
    result = fla.over(finished_world)("demo", "--format", "json")
    answer = json.loads(result.out)
    assert answer["champion"]["version"] is not None
    done = {a for step in answer["steps"] for a in step["materialised"]}
    assert done == {"raw_dataset", "recipe"}


def test_validate_counts_and_exit_codes(fla: Fla, world: Settings, patients: Path) -> None:
    good = fla.over(world)("validate", str(patients), "--format", "json")
    assert good.code == 0, good.err
    assert json.loads(good.out)["accepted"] == 40

    text = patients.read_text().splitlines()
    fields = text[1].split(",")
    fields[text[0].split(",").index("age")] = "777"
    patients.write_text("\n".join([*text, ",".join(fields)]) + "\n")
    bad = fla("validate", str(patients))
    assert bad.code == 1
    assert "age: outside 0 to 120  (line 42)" in bad.out
    assert "777" not in bad.out + bad.err


@pytest.mark.parametrize("arguments", [["validate"], ["predict"]])
def test_a_missing_file_is_one_line_and_exit_code_1(
    fla: Fla, finished_world: Settings, arguments: list[str]
) -> None:
    result = fla.over(finished_world)(*arguments, "/no/such/file.csv")
    assert result.code == 1
    assert "error: /no/such/file.csv cannot be read" in result.err
    assert "Traceback" not in result.err


def test_status_before_and_after(fla: Fla, world: Settings, finished_world: Settings) -> None:
    finished = fla.over(finished_world)("status", "--format", "json")
    answer = json.loads(finished.out)
    assert answer["champion"]["version"] is not None
    assert [h["hospital"] for h in answer["hospitals"]] == [
        "hospital-a",
        "hospital-b",
        "hospital-c",
    ]
    assert sum(h["records"] for h in answer["hospitals"]) == finished_world.synthetic_rows
    assert {r["recipe"] for r in answer["recipes"]} == {"small-lr", "small-mlp"}
    table = fla("status")
    assert "hospital-b" in table.out
    assert "champion: test-consortium-stroke-risk version" in table.out


def test_status_of_a_consortium_that_has_nothing_yet(
    fla: Fla, world: Settings, tmp_path: Path
) -> None:
    empty = Settings(
        home=tmp_path / "empty",
        consortium_file=world.consortium_file,
        recipes=world.recipes,
        tracking_uri=world.tracking_uri,
        coordinator_uri=(tmp_path / "empty" / "coordinator").as_uri(),
    )
    result = fla.over(empty)("status")
    assert result.code == 0, result.err
    assert "no champion yet: run `fla demo`" in result.out


def test_compare_shows_every_model(fla: Fla, finished_world: Settings) -> None:
    models = json.loads(fla.over(finished_world)("compare", "--format", "json").out)["models"]
    names = [model["evaluation"]["model"] for model in models]
    assert {"majority_class", "age_only", "hospital-b alone", "small-lr"} <= set(names)
    table = fla("compare")
    for name in names:
        assert name in table.out


def test_compare_before_anything_was_compared(fla: Fla, world: Settings) -> None:
    result = fla.over(world)("compare")
    assert result.code == 1
    assert "comparison/current.json" in result.err


def test_predict_scores_with_and_without_id_and_label(
    fla: Fla, finished_world: Settings, patients: Path, tmp_path: Path
) -> None:
    with_id = fla.over(finished_world)("predict", str(patients))
    assert with_id.code == 0, with_id.err
    scored = pd.read_csv(io.StringIO(with_id.out))
    assert list(scored.columns) == ["id", "probability", "above_threshold"]
    assert scored["probability"].between(0, 1).all()

    bare = tmp_path / "bare.csv"
    pd.read_csv(patients, dtype=str, keep_default_na=False).drop(columns=["id", "stroke"]).to_csv(
        bare, index=False
    )
    records = json.loads(fla("predict", str(bare), "--format", "json").out)
    assert [r["probability"] for r in records] == pytest.approx(list(scored["probability"]))


def test_predict_with_an_unknown_version_or_a_bad_row(
    fla: Fla, finished_world: Settings, patients: Path
) -> None:
    unknown = fla.over(finished_world)("predict", str(patients), "--model", "99")
    assert unknown.code == 1
    assert "no version or alias '99'" in unknown.err.replace("\n", " ")

    text = patients.read_text().splitlines()
    place = text[0].split(",").index("work_type")
    fields = text[1].split(",")
    fields[place] = "astronaut"
    patients.write_text("\n".join([text[0], ",".join(fields)]) + "\n")
    refused = fla("predict", str(patients))
    assert refused.code == 1
    assert "work_type" in refused.err
    assert "astronaut" not in refused.err


def test_predict_without_a_champion(fla: Fla, world: Settings, patients: Path) -> None:
    result = fla.over(world)("predict", str(patients))
    assert result.code == 1
    assert "has no champion yet" in result.err.replace("\n", " ")


def test_dev_outside_a_checkout_says_so(
    fla: Fla, world: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = fla.over(world)("dev")
    assert result.code == 1
    assert "run `fla dev` in a checkout" in result.err

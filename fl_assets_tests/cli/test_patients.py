"""``fla validate`` and ``predict``."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pandas as pd
import pytest

from fl_assets.settings import Settings
from fl_assets_tests.cli.fla import Fla


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

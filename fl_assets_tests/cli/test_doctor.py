"""``fla doctor``."""

from __future__ import annotations

import json

import pytest

from fl_assets.settings import Settings
from fl_assets_tests.cli.fla import Fla


def test_a_world_that_is_right(fla: Fla, world: Settings) -> None:
    result = fla.over(world)("doctor")

    assert result.code == 0
    assert "PROBLEM" not in result.out.upper()
    assert "store of hospital-c" in result.out


def test_a_problem_for_a_program(fla: Fla, world: Settings) -> None:
    (world.recipes / "bad.yaml").write_text("rounds: never\n")

    result = fla.over(world)("doctor", "--format", "json")

    findings = {finding["check"]: finding for finding in json.loads(result.out)}
    assert result.code == 1
    assert findings["recipes"]["verdict"] == "problem"
    assert findings["recipes"]["cure"].startswith("Correct the file that is named")
    assert {f["verdict"] for name, f in findings.items() if name != "recipes"} == {"passed"}


def test_without_a_consortium_the_rest_is_checked(fla: Fla, world: Settings) -> None:
    world.consortium_file.write_text("name: [\n")

    result = fla.over(world)("doctor", "-f", "json")

    found = {finding["check"]: finding["verdict"] for finding in json.loads(result.out)}
    assert result.code == 1
    assert found["consortium file"] == "problem"
    assert found["Python"] == "passed"
    assert not any("store" in name for name in found)


@pytest.mark.parametrize("arguments", [["--hospital", "nowhere"], ["--no-such-option"]])
def test_what_cannot_be_run(fla: Fla, world: Settings, arguments: list[str]) -> None:
    assert fla.over(world)("doctor", *arguments).code == 2


def test_an_environment_that_is_no_configuration(
    fla: Fla, world: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLA_SENSOR_SECONDS", "soon")

    result = fla.over(world)("doctor")

    assert result.code == 2
    assert "FLA_SENSOR_SECONDS" in result.err


def test_a_hospital_is_checked_without_mlflow_and_recipes(fla: Fla, world: Settings) -> None:
    result = fla.over(world)("doctor", "--hospital", "hospital-b", "-f", "json")

    names = [finding["check"] for finding in json.loads(result.out)]
    assert result.code == 0
    assert "store of hospital-b" in names
    assert not {"MLflow", "recipes", "coordinator's store"} & set(names)

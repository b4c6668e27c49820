"""``fla demo``, ``status`` and ``dev``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fl_assets.settings import Settings
from fl_assets_tests.cli.fla import Fla


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


def test_demo_of_a_file_that_is_not_there_says_so_and_nothing_else(
    fla: Fla, finished_world: Settings, tmp_path: Path
) -> None:
    result = fla.over(finished_world)("demo", "--data", str(tmp_path / "nowhere.csv"))
    assert result.code == 1
    assert result.err.count("nowhere.csv") == 1
    assert "raw_dataset failed, for the reasons above" in result.err
    assert not result.out


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


def test_dev_outside_a_checkout_says_so(
    fla: Fla, world: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = fla.over(world)("dev")
    assert result.code == 1
    assert "run `fla dev` in a checkout" in result.err

"""``fla recipes``, ``run``, ``compare`` and ``sweep``."""

from __future__ import annotations

import json

import dagster as dg
import pytest
import yaml

from fl_assets.coordinator.training import load_release
from fl_assets.federation.recipe import load_recipe
from fl_assets.privacy.ledger import Ledger
from fl_assets.settings import Settings
from fl_assets_tests.cli.fla import Fla, Result


def test_recipes_are_shown_with_their_models(fla: Fla, finished_world: Settings) -> None:
    entries = json.loads(fla.over(finished_world)("recipes", "--format", "json").out)
    assert [entry["name"] for entry in entries] == ["small-lr", "small-mlp"]
    release = load_release(finished_world.coordinator_store(), "small-mlp")
    assert entries[1]["version"] == release.version
    assert [entry["up_to_date"] for entry in entries] == [True, True]

    table = fla("recipes")
    assert table.code == 0
    for cell in ("small-mlp", "fedprox", "bce", "2 x 1", "yes"):
        assert cell in table.out


def test_a_wrong_recipe_is_named_and_hides_no_other(fla: Fla, finished_world: Settings) -> None:
    (finished_world.recipes / "broken.yaml").write_text("model: {kind: forest}\n")
    table = fla.over(finished_world)("recipes")
    assert table.code == 1
    assert "small-lr" in table.out
    assert "broken" in table.err
    assert "model" in table.err

    entries = json.loads(fla("recipes", "--format", "json").out)
    assert entries[0]["recipe"] is None
    assert "forest" in entries[0]["error"]


def test_run_shows_how_the_model_does(fla: Fla, finished_world: Settings) -> None:
    result = fla.over(finished_world)("run", "small-lr", "--force")
    assert result.code == 0, result.err
    assert "round 3 of 3" in result.err
    assert "small-lr on the test rows" in result.out
    assert "hospital-c" in result.out
    assert load_release(finished_world.coordinator_store(), "small-lr").version == "3"


def test_a_run_beyond_the_budget_is_refused_with_its_arithmetic(
    fla: Fla, finished_world: Settings, instance: dg.DagsterInstance
) -> None:
    private = {
        "model": {"kind": "logistic_regression"},
        "rounds": 2,
        "privacy": {"epsilon": 1.0, "minimum_rows": 20},
    }
    (finished_world.recipes / "private.yaml").write_text(yaml.safe_dump(private))
    consortium = yaml.safe_load(finished_world.consortium_file.read_text())
    consortium["privacy_budget"] = {"epsilon": 1.2, "unprotected_runs": True}
    finished_world.consortium_file.write_text(yaml.safe_dump(consortium))
    first = fla.over(finished_world)("run", "private")
    assert first.code == 0, first.err

    refused = fla("run", "private", "--force")
    arithmetic = "asks 1.00, lifetime would be 1.47 of 1.20, 0.59 left at delta 1e-05"
    assert refused.code == 1
    assert "hospital-a: run private-" in refused.err
    assert arithmetic in refused.err
    # What Dagster's UI shows of the failed asset; it was tried once.
    (run,) = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))
    failures = [
        record.event_log_entry.dagster_event.step_failure_data
        for record in instance.get_records_for_run(run.run_id).records
        if record.event_log_entry.dagster_event
        and record.event_log_entry.dagster_event.is_step_failure
    ]
    assert len(failures) == 1
    assert arithmetic in failures[0].user_failure_data.description
    entry = Ledger(finished_world.site_store("hospital-a"), "hospital-a").entries()[-1]
    assert entry.act.kind == "refuse"
    assert arithmetic in entry.act.reason


def test_run_as_json_and_a_failing_recipe_among_others(fla: Fla, finished_world: Settings) -> None:
    (finished_world.recipes / "small-mlp.yaml").write_text("model: {kind: forest}\n")
    edited = yaml.safe_load((finished_world.recipes / "small-lr.yaml").read_text()) | {"rounds": 1}
    (finished_world.recipes / "small-lr.yaml").write_text(yaml.safe_dump(edited))

    result = fla.over(finished_world)("run", "small-mlp", "small-lr", "--format", "json")

    assert result.code == 1
    assert "[small-mlp] recipe failed, for the reasons above" in result.err
    assert result.err.count("forest") == 1
    answer = json.loads(result.out)
    assert answer["evaluations"]["small-lr"]["version"] == "3"
    assert [step["status"] for step in answer["steps"]] == [
        "failed", *["materialised"] * 6,
    ]  # fmt: skip


def test_run_before_the_main_job_and_with_what_is_no_recipe(
    fla: Fla, world: Settings, finished_world: Settings
) -> None:
    early = fla.over(world)("run", "small-lr")
    assert early.code == 1
    assert "run `fla demo` first" in early.err

    fla.over(finished_world)
    unknown = fla("run", "small-lr", "nope")
    assert unknown.code == 1
    assert "'nope' is no recipe" in unknown.err
    assert "it has small-lr, small-mlp" in unknown.err
    assert "materialised" not in unknown.err
    path = fla("run", "elsewhere/mine.yaml")
    assert f"copy it to {finished_world.recipes}/mine.yaml, then call it 'mine'" in path.err
    assert "then" not in fla("run", "recipes/small-lr.yaml").err


def test_run_with_an_unknown_runtime(fla: Fla, finished_world: Settings) -> None:
    result = fla.over(finished_world)("run", "small-lr", "--force", "--runtime", "cloud")
    assert result.code == 1
    assert "no runtime is named 'cloud'" in result.err


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


def test_compare_two(fla: Fla, finished_world: Settings) -> None:
    table = fla.over(finished_world)("compare", "small-lr", "small-mlp")
    assert table.code == 0, table.err
    assert "small-mlp against small-lr" in table.out
    assert "balanced accuracy" in table.out
    assert "AUROC at each hospital" in table.out

    answer = json.loads(fla("compare", "small-lr", "small-mlp", "--format", "json").out)
    assert set(answer["sites"]) == set(finished_world.consortium.hospital_names)
    assert answer["verdict"]


def test_compare_one(fla: Fla, finished_world: Settings) -> None:
    result = fla.over(finished_world)("compare", "small-lr")
    assert result.code == 1
    assert "name a second recipe" in result.err


@pytest.fixture
def swept(fla: Fla, finished_world: Settings) -> Result:
    return fla.over(finished_world)("sweep", "small")


def test_sweep_shows_its_trials_and_how_to_save_the_best(swept: Result) -> None:
    assert swept.code == 0, swept.err
    assert "trial 3 of 3" in swept.err
    assert "best       trial" in swept.out
    assert "`fla sweep small --save small-lr-tuned`" in swept.out


def test_the_best_of_a_sweep_becomes_a_recipe(
    fla: Fla, swept: Result, finished_world: Settings
) -> None:
    saved = fla("sweep", "small", "--save", "tuned", "--format", "json")
    assert saved.code == 0, saved.err
    result = json.loads(saved.out)
    recipe = load_recipe(finished_world.recipes / "tuned.yaml")
    assert recipe.optimizer.lr == result["trials"][result["best"]]["values"]["optimizer.lr"]

    twice = fla("sweep", "small", "--save", "tuned")
    assert twice.code == 1
    assert "is there already" in twice.err


def test_an_unknown_sweep(fla: Fla, finished_world: Settings) -> None:
    result = fla.over(finished_world)("sweep", "nope")
    assert result.code == 1
    assert "it has small" in result.err

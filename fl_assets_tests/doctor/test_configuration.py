from __future__ import annotations

from fl_assets.doctor.checks import Verdict
from fl_assets.doctor.configuration import cohort_check, consortium_check, recipe_checks
from fl_assets.settings import Settings
from fl_assets_tests.doctor.findings import findings


def test_the_files_of_a_world_fit(world: Settings) -> None:
    found = findings([consortium_check(world), cohort_check(world), *recipe_checks(world)])

    assert {finding.verdict for finding in found.values()} == {Verdict.PASSED}
    assert "3 hospitals, simulated" in found["consortium file"].found
    assert found["recipes"].found == "recipes: 2, sweeps: 1; routine: small-lr, small-mlp"


def test_a_recipe_that_does_not_fit_is_named(world: Settings) -> None:
    (world.recipes / "bad.yaml").write_text("rounds: never\n")

    found = findings(recipe_checks(world))["recipes"]

    assert found.verdict == Verdict.PROBLEM
    assert "bad.yaml" in found.found
    assert "rounds" in found.found


def test_a_cohort_that_is_not_there_is_a_problem(world: Settings) -> None:
    text = world.consortium_file.read_text()
    world.consortium_file.write_text(text.replace("cohort: stroke", "cohort: gone.yaml"))

    found = findings([consortium_check(world), cohort_check(world)])

    assert found["consortium file"].verdict == Verdict.PASSED
    assert found["cohort"].verdict == Verdict.PROBLEM

import json

import pytest
import yaml
from typer.testing import CliRunner

from benchmarks.membership import Row, app, judge
from benchmarks.setting import RECIPES
from fl_assets.federation.recipe import load_recipe
from fl_assets.privacy.attacks import Attack
from fl_assets.privacy.configs import PrivacyConfig


@pytest.fixture(scope="module")
def command(small_csv, tmp_path_factory):
    path = tmp_path_factory.mktemp("recipes") / "short-lr.yaml"
    recipe = yaml.safe_load((RECIPES / "fedavg-lr.yaml").read_text())
    path.write_text(yaml.safe_dump(recipe | {"rounds": 2}))
    options = {"--data": small_csv, "--recipe": path, "--repeats": 2, "--workers": 1}
    return [str(word) for option in options.items() for word in option]


def test_control_and_candidate_over_the_repeats(command):
    result = CliRunner().invoke(app, [*command, "--format", "json"], catch_exceptions=False)
    document = json.loads(result.stdout)
    assert result.exit_code == (0 if all(bar["passed"] for bar in document["bars"]) else 1)
    rows = {(r["subject"], r["group"], r["attack"]): r for r in document["rows"]}
    assert len(rows) == len(document["rows"]) == 8
    assert all(len(row["auroc"]) == 2 for row in rows.values())
    caught, careful = (rows[s, "positives", "likelihood_ratio"] for s in ("control", "candidate"))
    assert min(caught["auroc"]) > 0.8
    assert max(careful["low"]) < 0.65
    assert [bar["figure"] for bar in document["bars"]] == pytest.approx(
        [sum(row["auroc"]) / 2 for row in (caught, careful)]
    )


def lira(subject, auroc, epsilon=0.0):
    none = [auroc]
    return Row(subject, "positives", Attack.LIKELIHOOD_RATIO, none, none, none, none, epsilon)


def test_a_private_recipe_has_a_lower_bar_and_its_claim():
    plain = load_recipe(RECIPES / "fedavg-lr.yaml")
    private = plain.model_copy(update={"privacy": PrivacyConfig(epsilon=1.0)})
    rows = [lira("control", 0.9, 3.0), lira("candidate", 0.6, 1.1)]
    assert [bar.passed for bar in judge(rows, plain, 0.65)] == [True, True]
    assert [bar.passed for bar in judge(rows, private, 0.65)] == [True, False, False]
    missed = [lira("control", 0.8), lira("candidate", 0.5)]
    assert [bar.passed for bar in judge(missed, private, 0.65)] == [False, True, True]

import json
from types import SimpleNamespace

import pytest
import yaml
from typer.testing import CliRunner

from benchmarks import privacy
from benchmarks.methods import FoldTask
from benchmarks.privacy import DEFAULT, PrivateTask, Row, app, judge, repeat_means
from benchmarks.setting import RECIPES
from fl_assets.learning.metrics import Metric
from fl_assets_tests.benchmarks.scores import scores_of

FOLDS, DRAWS, REPEATS = 2, 2, 2


@pytest.fixture(scope="module")
def document(small_csv, tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipes")
    recipe = yaml.safe_load((RECIPES / f"{DEFAULT}.yaml").read_text())
    short = {"rounds": 3, "average_rounds": 2}
    (folder / f"{DEFAULT}.yaml").write_text(yaml.safe_dump(recipe | short))
    options = {
        "--data": small_csv,
        "--recipes": folder,
        "--folds": FOLDS,
        "--draws": DRAWS,
        "--repeats": REPEATS,
        "--workers": 1,
        "--format": "json",
    }
    words = [str(word) for option in options.items() for word in option]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    found = json.loads(result.stdout)
    assert result.exit_code == (0 if all(bar["passed"] for bar in found["bars"]) else 1)
    return found


def test_every_repeat_has_a_mean_for_each_draw(document):
    (row,) = document["rows"]
    assert row["recipe"] == DEFAULT
    assert row["figures"]["auroc"]["n"] == FOLDS
    means = document["repeats"]
    assert [len(repeat) for repeat in means] == [DRAWS] * REPEATS
    assert row["figures"]["auroc"]["mean"] == pytest.approx(sum(means[0]) / DRAWS)
    least = next(bar for bar in document["bars"] if bar["name"].startswith("least"))
    assert least["figure"] == min(min(repeat) for repeat in means)


def test_no_two_folds_and_no_two_draws_share_their_noise(monkeypatch):
    """Shared noise would not average out over folds as that of independent trainings does."""
    seeds = []

    class Recording:
        def __init__(self, *_):
            names = SimpleNamespace(index=lambda _: 0)
            self.public = SimpleNamespace(feature_names=names)

        def reference(self, *_):
            pass

        def recipe(self, _, draw):
            seeds.append(draw.seed)

        def found(self):
            pass

    monkeypatch.setattr(privacy, "Fold", Recording)
    setting = SimpleNamespace(spec=SimpleNamespace(age_column="age"))
    for repeat in range(REPEATS):
        for number in range(5):
            task = FoldTask(setting, None, {"r": None}, repeat)
            privacy.score_draws(PrivateTask(task, number, draws=4))
    assert len(seeds) == len(set(seeds)) == REPEATS * 5 * 4


def test_the_means_of_repeats_are_by_draw():
    ranked = (True, True, False, True)
    folds = [scores_of({"r-draw-0": right, "r-draw-1": not right}) for right in ranked]
    assert repeat_means(folds, "r", draws=2, folds=2) == [[1.0, 0.0], [0.5, 0.5]]


@pytest.mark.parametrize("worst", [0.835, 0.837])
def test_a_single_bad_draw_misses_the_bar(worst):
    spread = SimpleNamespace(mean=0.85)
    figures = dict.fromkeys((Metric.AUROC, Metric.SENSITIVITY_AT_80_SPECIFICITY), spread)
    row = Row(
        recipe=DEFAULT,
        epsilon=1.0,
        figures=figures | {Metric.ECE: SimpleNamespace(mean=0.01)},
        noise=0.0,
        over_age=SimpleNamespace(mean=0.01, low=0.002, high=0.02),
    )
    repeats = [[0.85, 0.85], [0.85, worst]]
    missed = [bar.name for bar in judge({DEFAULT: row}, repeats) if not bar.passed]
    assert len(missed) == (worst < 0.836)

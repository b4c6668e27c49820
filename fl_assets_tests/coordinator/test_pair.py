"""Two recipes' models paired by patient: figures, refusals, and the words for them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import yaml

from fl_assets.coordinator.evaluation import load_evaluation
from fl_assets.coordinator.pair import (
    NoisedFiguresError,
    NotComparableError,
    RecipePair,
    compare_recipes,
    pair_tables,
    verdict,
)
from fl_assets.coordinator.trained import OutdatedModelError
from fl_assets.coordinator.training import load_release
from fl_assets.federation.recipe import UnknownRecipeError
from fl_assets.learning.paired import PairedEvaluation, Scored, compare_pair
from fl_assets.privacy.configs import PrivacyConfig
from fl_assets.settings import Settings
from fl_assets.site import partitions
from fl_assets.site.egress import EgressLog


def test_the_figures_are_those_of_the_two_evaluations(finished_world: Settings) -> None:
    store = finished_world.coordinator_store()
    pair = compare_recipes(finished_world, "small-lr", "small-mlp")

    for recipe, side in (("small-lr", "a"), ("small-mlp", "b")):
        evaluation = load_evaluation(store, recipe)
        for name, site in pair.sites.items():
            alone = evaluation.sites[name].evaluation
            assert site.evaluation is not None
            assert alone is not None
            for metric, found in site.evaluation.metrics.items():
                assert getattr(found, side) == pytest.approx(getattr(alone, metric))
        assert pair.pooled is not None
        assert evaluation.pooled is not None
        for metric, found in pair.pooled.metrics.items():
            assert getattr(found, side) == pytest.approx(getattr(evaluation.pooled, metric))
    assert pair.versions == tuple(load_release(store, r).version for r in ("small-lr", "small-mlp"))


def test_what_leaves_a_hospital_is_logged(finished_world: Settings) -> None:
    log = EgressLog(finished_world.site_store("hospital-a"))
    before = len(log.entries())
    compare_recipes(finished_world, "small-lr", "small-mlp")
    (entry,) = log.entries()[before:]
    assert (entry.kind, entry.detail) == ("evaluation", "paired")
    assert "-against-" in entry.run


@pytest.mark.parametrize("epsilon", [1.0, None])
def test_a_recipe_with_noised_figures_is_not_compared_row_by_row(
    epsilon: float | None, finished_world: Settings
) -> None:
    store = finished_world.coordinator_store()
    release = load_release(store, "small-mlp")
    privacy = PrivacyConfig(epsilon=1.0, evaluation_epsilon=epsilon)
    private = release.recipe.model_copy(update={"privacy": privacy})
    changed = release.model_copy(update={"recipe": private})
    store.put("releases/small-mlp.json", changed.model_dump_json().encode())
    if epsilon is None:
        assert compare_recipes(finished_world, "small-lr", "small-mlp").mean is not None
        return
    log = EgressLog(finished_world.site_store("hospital-a"))
    before = len(log.entries())
    with pytest.raises(NoisedFiguresError, match="small-mlp has an evaluation_epsilon"):
        compare_recipes(finished_world, "small-lr", "small-mlp")
    assert len(log.entries()) == before


def test_a_real_consortium_compares_without_pooling(finished_world: Settings) -> None:
    config = yaml.safe_load(finished_world.consortium_file.read_text())
    finished_world.consortium_file.write_text(yaml.safe_dump(config | {"simulated": False}))
    real = dataclasses.replace(finished_world)
    pair = compare_recipes(real, "small-lr", "small-mlp")
    assert pair.pooled is None
    assert pair.mean is not None
    assert "mean over the hospitals" in pair_tables(pair)[0].caption
    assert verdict(pair)


def test_a_model_that_was_not_evaluated(finished_world: Settings) -> None:
    store = finished_world.coordinator_store()
    with pytest.raises(UnknownRecipeError, match="it has small-lr, small-mlp"):
        compare_recipes(finished_world, "small-lr", "nope")
    (finished_world.recipes / "new.yaml").write_text("model: {kind: logistic_regression}\n")
    with pytest.raises(NotComparableError, match=r"new cannot .* run `fla run new` first"):
        compare_recipes(finished_world, "small-lr", "new")
    release = load_release(store, "small-mlp").model_copy(update={"version": "17"})
    store.put("releases/small-mlp.json", release.model_dump_json().encode())
    with pytest.raises(NotComparableError, match="version 17 was not evaluated"):
        compare_recipes(finished_world, "small-lr", "small-mlp")


def test_other_rows_than_the_current_ones(finished_world: Settings) -> None:
    store = finished_world.site_store("hospital-b")
    other = finished_world.consortium.split.model_copy(update={"salt": "another-salt"})
    before = partitions.load_manifest(store).version
    partitions.build_partitions(store, finished_world.cohort, other)
    assert partitions.load_manifest(store).version != before
    with pytest.raises(NotComparableError, match="on other rows at hospital-b"):
        compare_recipes(finished_world, "small-lr", "small-mlp")


def test_features_that_are_made_differently_now(finished_world: Settings) -> None:
    store = finished_world.coordinator_store()
    release = load_release(store, "small-lr").model_copy(update={"preprocessor": "another"})
    store.put("releases/small-lr.json", release.model_dump_json().encode())
    with pytest.raises(OutdatedModelError, match="`fla run small-lr` trains it anew"):
        compare_recipes(finished_world, "small-lr", "small-mlp")


def pair_of(pooled: PairedEvaluation | None) -> RecipePair:
    return RecipePair(a="one", b="two", versions=("1", "2"), sites={}, mean=None, pooled=pooled)


def scored(n: int, gain: float) -> PairedEvaluation:
    rng = np.random.default_rng(0)
    y = (rng.random(n) < 0.2).astype(float)
    noise = rng.random(n)
    a, b = 0.2 * y + 0.8 * noise, (0.2 + gain) * y + (0.8 - gain) * noise
    return compare_pair(y, Scored(a, 0.5), Scored(b, 0.5), replicates=50)


def test_the_verdict_says_which_ranks_better() -> None:
    assert verdict(pair_of(scored(2000, 0.2))).startswith("two ranks patients better than one")
    assert "two has the better Brier" in verdict(pair_of(scored(2000, 0.2)))
    assert verdict(pair_of(scored(2000, -0.15))).startswith("one ranks patients better than two")
    assert "cannot be told apart" in verdict(pair_of(scored(2000, 0.0)))
    assert "too few" in verdict(pair_of(scored(6, 0.0)))
    assert "too few" in verdict(pair_of(None))

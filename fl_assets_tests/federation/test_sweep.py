"""Sweep files: what may be varied, and what a wrong one is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from fl_assets.config import ConfigFileError
from fl_assets.federation.recipe import load_recipe
from fl_assets.federation.sweep import (
    ChoicesConfig,
    RangeConfig,
    RecipeExistsError,
    SweepError,
    load_sweep,
    recipe_text,
    save_recipe,
    sweep_names,
    varied,
)
from fl_assets_tests.conftest import REPOSITORY

BASE = {
    "model": {"kind": "mlp", "hidden": [4]},
    "strategy": {"kind": "fedprox", "mu": 0.5},
    "norm_bound": {"relative": None},
    "rounds": 7,
}


@pytest.fixture
def recipes(tmp_path: Path) -> Path:
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(BASE))
    (tmp_path / "sweeps").mkdir()
    return tmp_path


def write(recipes: Path, **sweep: Any) -> None:
    (recipes / "sweeps" / "s.yaml").write_text(yaml.safe_dump({"recipe": "base", **sweep}))


@pytest.mark.parametrize("name", sweep_names(REPOSITORY / "recipes"))
def test_the_shipped_sweeps_fit_their_recipes(name: str) -> None:
    sweep, base = load_sweep(REPOSITORY / "recipes", name)
    assert sweep.name == name
    assert base.name == sweep.recipe


def test_a_sweep_has_its_files_name_and_kinds_of_space(recipes: Path) -> None:
    write(
        recipes,
        space={
            "rounds": {"low": 1, "high": 9, "step": 4},
            "optimizer.lr": {"low": "1e-4", "high": 1, "log": True},
            "strategy": {"choices": [{"kind": "fedavg"}, {"kind": "fedprox", "mu": 0.1}]},
        },
    )
    sweep, base = load_sweep(recipes, "s")
    assert (sweep.name, base.name) == ("s", "base")
    rounds, lr, strategy = (sweep.space[f] for f in ("rounds", "optimizer.lr", "strategy"))
    assert isinstance(rounds, RangeConfig)
    assert rounds.whole
    assert isinstance(lr, RangeConfig)
    assert not lr.whole
    assert isinstance(strategy, ChoicesConfig)
    assert strategy.labels == ['{"kind": "fedavg"}', '{"kind": "fedprox", "mu": 0.1}']


def test_a_folder_without_sweeps_has_none(tmp_path: Path) -> None:
    assert sweep_names(tmp_path) == []


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"rounds": {"low": 0, "high": 5}}, r"rounds = 0 in base does not fit"),
        ({"loss.gamma": {"low": 1, "high": 2}}, r"loss\.bce\.gamma: unknown key"),
        ({"model.hidden": {"choices": [[4], [-1]]}}, r"model\.mlp\.hidden"),
        ({"rounds": {"low": 5, "high": 5}}, r"low must be below high"),
        ({"strategy.mu": {"low": 0, "high": 1, "log": True}}, r"give a low above 0"),
        ({"strategy.mu": {"low": 0.1, "high": 1.0, "step": 1}}, r"step is for whole numbers"),
        ({"rounds": {"choices": [5]}}, r"space\.rounds\.choices\.choices"),
        ({"seed": {"low": 1, "high": 5}}, r"seed is no hyper-parameter"),
        ({"strategy": {"choices": [1, 2]}, "strategy.mu": {"low": 0.0, "high": 1.0}}, "a part of"),
        ({}, "at least 1 item"),
    ],
)
def test_a_wrong_space_is_found_before_any_training(
    recipes: Path, space: dict[str, Any], message: str
) -> None:
    write(recipes, space=space)
    with pytest.raises(ConfigFileError, match=message):
        load_sweep(recipes, "s")


def test_a_field_of_a_part_that_the_recipe_lacks(recipes: Path) -> None:
    write(recipes, space={"personalisation.epochs": {"low": 1, "high": 3}})
    with pytest.raises(SweepError, match=r"recipe base has no personalisation with fields"):
        load_sweep(recipes, "s")


def test_a_varied_recipe_differs_in_nothing_else(recipes: Path) -> None:
    base = load_recipe(recipes / "base.yaml")
    found = varied(base, {"strategy.mu": 0.2, "model.hidden": [8, 8]}, "test")
    assert found.model_dump() == base.model_dump() | {
        "strategy": {"kind": "fedprox", "mu": 0.2},
        "model": {"kind": "mlp", "hidden": (8, 8)},
    }
    assert varied(base, {}, "test") == base


def test_the_text_of_a_recipe_is_the_recipe(recipes: Path) -> None:
    base = load_recipe(recipes / "base.yaml")
    text = recipe_text(base, "said: this")
    assert "batch_size" not in text
    path = save_recipe(recipes, "copy", text)
    saved = load_recipe(path)
    assert saved.description == "said: this"
    assert saved.model_copy(update={"name": "base", "description": ""}) == base


def test_a_saved_recipe_overwrites_nothing_and_leaves_nothing_wrong(recipes: Path) -> None:
    with pytest.raises(RecipeExistsError):
        save_recipe(recipes, "base", "")
    with pytest.raises(ConfigFileError, match="cannot name a recipe"):
        save_recipe(recipes, "Not A Name", "model: {kind: mlp}")
    assert [file.name for file in recipes.glob("*.yaml")] == ["base.yaml"]

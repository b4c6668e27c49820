from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import ValidationError

from fl_assets.config import ConfigFileError
from fl_assets.federation.recipe import (
    FineTuningConfig,
    LocalLayersConfig,
    Recipe,
    load_recipe,
    recipe_names,
    routine_names,
)
from fl_assets.federation.strategies.configs import StrategyConfig
from fl_assets.learning.configs import LossConfig, MLPConfig, ModelConfig

SHIPPED = Path(__file__).resolve().parents[2] / "recipes"
LR = {"model": {"kind": "logistic_regression"}}


def write(folder: Path, recipe: dict[str, Any] | str, name: str = "mine.yaml") -> Path:
    path = folder / name
    path.write_text(recipe if isinstance(recipe, str) else yaml.safe_dump(recipe))
    return path


def test_every_shipped_recipe_loads_and_is_named_like_its_file() -> None:
    names = recipe_names(SHIPPED)
    assert {"fedavg-lr", "fedavg-mlp", "fedprox-mlp"} <= set(names)
    for name in names:
        recipe = load_recipe(SHIPPED / f"{name}.yaml")
        assert recipe.name == name
        assert recipe.description


def test_the_name_is_the_files(tmp_path: Path) -> None:
    assert load_recipe(write(tmp_path, LR)).name == "mine"
    assert load_recipe(write(tmp_path, LR | {"name": "mine"})).name == "mine"
    with pytest.raises(ConfigFileError, match="calls itself 'other'"):
        load_recipe(write(tmp_path, LR | {"name": "other"}))


@pytest.mark.parametrize("name", ["My recipe.yaml", "-x.yaml", "a.b.yaml", ".hidden.yaml"])
def test_a_name_that_cannot_be_a_key_or_a_partition_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigFileError, match="cannot name a recipe"):
        load_recipe(write(tmp_path, LR, name))


def test_hidden_and_foreign_files_are_no_recipes(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yaml", ".#a.yaml", "notes.txt", "c.yaml.orig"):
        write(tmp_path, LR, name)
    assert recipe_names(tmp_path) == ["a", "b"]


def test_a_folder_without_recipes_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigFileError, match=f"{tmp_path} holds no recipe"):
        recipe_names(tmp_path)


BAD = {
    "model": [{"model": {"kind": "transformer"}}, {"model": {}}],
    "model.mlp.hidden.0": [{"model": {"kind": "mlp", "hidden": [0]}}],
    "model.mlp.width": [{"model": {"kind": "mlp", "width": 3}}],
    "optimizer": [{"optimizer": {"kind": "adam", "momentum": 0.9}}],
    "optimizer.kind": [{"optimizer": {"kind": "lbfgs"}}],
    "optimizer.lr": [{"optimizer": {"lr": x}} for x in (0, -1, "fast", float("inf"))],
    "optimizer.momentum": [{"optimizer": {"momentum": 1.0}}],
    "optimizer.weight_decay": [{"optimizer": {"weight_decay": -0.1}}],
    "strategy": [{"strategy": {"kind": "bulyan"}}],
    "strategy.fedprox.mu": [{"strategy": {"kind": "fedprox", "mu": -1}}],
    "strategy.fedavg.mu": [{"strategy": {"kind": "fedavg", "mu": 1}}],
    "rounds": [{"rounds": x} for x in (0, 10_001, 1.5)],
    "local_epochs": [{"local_epochs": 0}],
    "batch_size": [{"batch_size": 0}],
    "quorum": [{"quorum": 0}],
    "round_deadline": [{"round_deadline": x} for x in (0, float("inf"))],
    "preprocessor": [{"preprocessor": "none"}],
    "seed": [{"seed": "x"}],
    "epochs": [{"epochs": 3}],
}


@pytest.mark.parametrize(
    ("field", "change"), [(field, change) for field, changes in BAD.items() for change in changes]
)
def test_a_bad_field_is_named(tmp_path: Path, field: str, change: dict[str, Any]) -> None:
    with pytest.raises(ConfigFileError) as caught:
        load_recipe(write(tmp_path, LR | change))
    assert f"  {field}: " in str(caught.value)
    assert "mine.yaml" in str(caught.value)


def test_all_bad_fields_are_named_at_once(tmp_path: Path) -> None:
    bad = {
        "model": {"kind": "mlp", "hidden": [0]},
        "rounds": 0,
        "optimizer": {"kind": "adam", "momentum": 0.5},
        "extra": 1,
    }
    with pytest.raises(ConfigFileError) as caught:
        load_recipe(write(tmp_path, bad))
    for field in ("model.mlp.hidden.0", "rounds", "optimizer", "extra"):
        assert f"  {field}: " in str(caught.value)


def test_a_recipe_needs_a_model(tmp_path: Path) -> None:
    with pytest.raises(ConfigFileError, match="model: Field required"):
        load_recipe(write(tmp_path, {"rounds": 3}))


def test_the_hash_ignores_formatting_and_description(tmp_path: Path) -> None:
    plain = "model: {kind: mlp, hidden: [8, 4]}\noptimizer: {lr: 0.010}\nrounds: 3\n"
    same = (
        "# a comment\nrounds: 3\ndescription: words\noptimizer:\n  lr: 1.0e-2\n"
        "model:\n  hidden:\n  - 8\n  - 4\n  kind: mlp\nbatch_size: 32\n"
    )
    one = load_recipe(write(tmp_path, plain))
    assert load_recipe(write(tmp_path, same)).hash == one.hash


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"model": {"kind": "mlp", "hidden": [8]}},
        {"optimizer": {"lr": 0.02}},
        {"strategy": {"kind": "fedprox", "mu": 0.0}},
        {"rounds": 49},
        {"local_epochs": 2},
        {"batch_size": 31},
        {"quorum": 2},
        {"round_deadline": 1.0},
        {"preprocessor": "moments"},
        {"seed": 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_hash_changes_with_what_is_asked_for(change: dict[str, Any]) -> None:
    base = {"name": "r", "model": {"kind": "mlp", "hidden": [8, 4]}}
    assert Recipe.model_validate(base).hash != Recipe.model_validate(base | change).hash


def test_a_site_learns_its_part_of_the_recipe() -> None:
    recipe = Recipe.model_validate(
        {
            "name": "r",
            "model": {"kind": "mlp", "hidden": [8]},
            "optimizer": {"kind": "adam", "lr": 0.001},
            "strategy": {"kind": "fedprox", "mu": 0.3},
            "local_epochs": 4,
            "batch_size": 7,
            "seed": 9,
        }
    )
    plan = recipe.local_training
    assert plan.model == MLPConfig(hidden=(8,))
    assert plan.optimizer == recipe.optimizer
    assert (plan.epochs, plan.batch_size, plan.proximal_mu, plan.seed) == (4, 7, 0.3, 9)
    assert Recipe(name="r", model=MLPConfig()).local_training.proximal_mu == 0.0


def test_the_routine_is_part_of_the_recipes_or_all_of_them(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.yaml").write_text("model: {kind: logistic_regression}\n")
    assert routine_names(tmp_path, None) == ["a", "b", "c"]
    assert routine_names(tmp_path, ("c", "a")) == ["c", "a"]
    with pytest.raises(ConfigFileError, match=r"has d in its routine.*it has a, b, c"):
        routine_names(tmp_path, ("a", "d"))


def test_the_shipped_recipes_cover_every_strategy_model_and_loss():
    shipped = [load_recipe(file) for file in SHIPPED.glob("*.yaml")]
    for part, union in (
        ("strategy", StrategyConfig),
        ("model", ModelConfig),
        ("loss", LossConfig),
    ):
        kinds = {get_args(kind.model_fields["kind"].annotation)[0] for kind in members(union)}
        assert {getattr(recipe, part).kind for recipe in shipped} == kinds
    assert {type(r.personalisation) for r in shipped} > {LocalLayersConfig, FineTuningConfig}
    assert any(recipe.pretraining for recipe in shipped)


def members(union):
    return get_args(get_args(union)[0])


PRIVATE = {"privacy": {"epsilon": 1.0}}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (PRIVATE | {"preprocessor": "moments"}, "`preprocessor: public`"),
        (PRIVATE | {"local_epochs": 5}, "leave `local_epochs` and `batch_size` out"),
        (PRIVATE | {"batch_size": 64}, "leave `local_epochs` and `batch_size` out"),
        (
            PRIVATE | {"model": {"kind": "embedding"}, "pretraining": {}},
            "pretraining adds no noise",
        ),
        ({"privacy": {"epsilon": 0}}, "epsilon"),
        ({"privacy": {"epsilon": 1, "delta": 0.5}}, "delta"),
        ({"privacy": {"epsilon": 1, "clip": 0}}, "clip"),
        ({"privacy": {"epsilon": 1, "sampling_rate": 1.5}}, "sampling_rate"),
        ({"rounds": 5, "average_rounds": 6}, "average_rounds is 6 and there are 5 rounds"),
        ({"features": {"age": 0}}, "features"),
        *(
            ({"secure_aggregation": {}, "strategy": {"kind": kind}}, f"{kind} looks at single")
            for kind in ("median", "trimmed_mean", "krum")
        ),
    ],
)
def test_what_privacy_cannot_mean_is_refused(asked: dict[str, object], message: str) -> None:
    plain = {"name": "asked", "model": {"kind": "logistic_regression"}}
    with pytest.raises(ValidationError, match=message):
        Recipe.model_validate(plain | asked)

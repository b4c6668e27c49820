import pytest
from pydantic import ValidationError

from fl_assets.config import ConfigFileError, parse_yaml_model
from fl_assets.federation.recipe import Recipe
from fl_assets.learning.configs import MLPConfig, OptimizerConfig


def test_momentum_belongs_to_sgd() -> None:
    assert OptimizerConfig(kind="sgd", momentum=0.9).momentum == 0.9
    with pytest.raises(ValidationError, match="momentum is for sgd, not adam: leave it out"):
        OptimizerConfig(kind="adam", momentum=0.9)


@pytest.mark.parametrize("lr", [0, -0.1, float("inf"), float("nan")])
def test_a_learning_rate_is_a_positive_number(lr: float) -> None:
    with pytest.raises(ValidationError, match="lr"):
        OptimizerConfig(lr=lr)


def test_a_hidden_layer_has_a_width() -> None:
    assert MLPConfig(hidden=()).hidden == ()
    with pytest.raises(ValidationError, match=r"hidden\.1"):
        MLPConfig(hidden=(4, 0))


@pytest.mark.parametrize("kind", ["embedding", "early_fusion", "late_fusion", "attention_fusion"])
def test_batch_norm_is_refused_by_the_name_of_its_field(kind: str) -> None:
    text = f"{{name: r, model: {{kind: {kind}, norm: batch}}}}"
    with pytest.raises(ConfigFileError, match=rf"model\.{kind}\.norm: .*'none' or 'layer'"):
        parse_yaml_model(text, Recipe, "r.yaml")

import pytest
from pydantic import ValidationError

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

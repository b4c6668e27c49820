import pytest
import torch
from torch import nn

from fl_assets.learning.configs import (
    AttentionFusionConfig,
    EarlyFusionConfig,
    EmbeddingConfig,
    LateFusionConfig,
    LogisticRegressionConfig,
    MLPConfig,
    ModelConfig,
)
from fl_assets.learning.models import build_model, local_names

GROUPS = {"a": (0, 1), "b": (2,)}
NORMED = [
    EmbeddingConfig(encoder=(5, 1)),
    EarlyFusionConfig(norm="layer"),
    LateFusionConfig(norm="layer"),
    AttentionFusionConfig(norm="layer", hidden=(4,)),
]


def built(config: ModelConfig) -> nn.Module:
    return build_model(config, GROUPS, 0.05, seed=1)


@pytest.mark.parametrize(
    ("config", "norms"),
    [
        (NORMED[0], {"encoder.1", "encoder.4"}),
        (NORMED[1], {"encoder.tokens.projections.0.1", "encoder.tokens.projections.1.1"}),
        (NORMED[2], {"networks.0.1", "networks.1.1"}),
        (NORMED[3], {"encoder.tokens.projections.0.1", "encoder.tokens.projections.1.1"}),
        (MLPConfig(), set()),
        (LateFusionConfig(), set()),
    ],
)
def test_the_names_of_the_norms(config: ModelConfig, norms: set[str]) -> None:
    expected = {f"{name}.{weight}" for name in norms for weight in ("weight", "bias")}
    assert local_names(built(config), "norm") == expected


@pytest.mark.parametrize(
    ("config", "heads"),
    [
        (LogisticRegressionConfig(), {"0"}),
        (MLPConfig(hidden=(4, 1)), {"4"}),
        (NORMED[0], {"head"}),
        (NORMED[1], {"head"}),
        (NORMED[2], {"networks.0.3", "networks.1.3"}),
        (LateFusionConfig(hidden=()), {"networks.0.0", "networks.1.0"}),
        (NORMED[3], {"head"}),
    ],
)
def test_the_names_of_the_heads(config: ModelConfig, heads: set[str]) -> None:
    expected = {f"{name}.{weight}" for name in heads for weight in ("weight", "bias")}
    assert local_names(built(config), "head") == expected


@pytest.mark.parametrize("config", NORMED, ids=lambda config: config.kind)
def test_they_are_names_of_the_state_dict_and_do_not_overlap(config: ModelConfig) -> None:
    model = built(config)
    norm, head = local_names(model, "norm"), local_names(model, "head")
    assert norm | head < set(model.state_dict())
    assert not norm & head


def test_the_head_is_what_moves_every_logit_alike() -> None:
    model = built(NORMED[2])
    rows = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    before = model(rows)
    biases = [name for name in local_names(model, "head") if name.endswith("bias")]
    with torch.no_grad():
        for name in biases:
            model.get_parameter(name).add_(0.5)
    torch.testing.assert_close(model(rows), before + 0.5 * len(biases))

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fl_assets.learning.configs import (
    AttentionFusionConfig,
    EarlyFusionConfig,
    LateFusionConfig,
    LogisticRegressionConfig,
    ModelConfig,
)
from fl_assets.learning.models import AttentionFusion, EmbeddingModel, LateFusion, build_model

GROUPS = {"history": (1, 2), "bloods": (0, 3, 5), "habits": (6, 4)}
ROWS = torch.randn(40, 7, generator=torch.Generator().manual_seed(0))


def built(config: ModelConfig) -> nn.Module:
    return build_model(config, GROUPS, 0.049, seed=1)


def attention(config: AttentionFusionConfig) -> AttentionFusion:
    model = built(config)
    assert isinstance(model, AttentionFusion)
    return model


def tokens_by_hand(model: nn.Module, layer_norm: bool) -> list[Tensor]:
    weights, tokens = dict(model.named_parameters()), []
    for index, columns in enumerate(GROUPS.values()):
        own = f"encoder.tokens.projections.{index}"
        token = ROWS[:, columns] @ weights[f"{own}.0.weight"].T + weights[f"{own}.0.bias"]
        if layer_norm:
            gain, shift = weights[f"{own}.1.weight"], weights[f"{own}.1.bias"]
            token = functional.layer_norm(token, token.shape[1:], gain, shift)
        tokens.append(token.clamp(min=0))
    return tokens


@pytest.mark.parametrize("norm", ["none", "layer"])
def test_early_fusion_joins_the_projections(norm: str) -> None:
    model = built(EarlyFusionConfig.model_validate({"projection": 4, "hidden": [3], "norm": norm}))
    joined = torch.cat(tokens_by_hand(model, norm == "layer"), dim=1)

    weights = model.state_dict()
    hidden = joined @ weights["encoder.hidden.0.weight"].T + weights["encoder.hidden.0.bias"]
    expected = hidden.clamp(min=0) @ weights["head.weight"].T + weights["head.bias"]
    assert joined.shape == (40, 12)
    torch.testing.assert_close(model(ROWS), expected)


def test_attention_fusion_is_the_published_pooling_of_the_tokens() -> None:
    model = attention(AttentionFusionConfig(projection=4, norm="layer"))
    tokens = torch.stack(tokens_by_hand(model, layer_norm=True), dim=1)

    weights = model.state_dict()
    v, b = weights["encoder.pooling.score.0.weight"], weights["encoder.pooling.score.0.bias"]
    w = weights["encoder.pooling.score.2.weight"]
    scores = torch.tanh(tokens @ v.T + b) @ w[0]
    shares = scores.exp() / scores.exp().sum(dim=1, keepdim=True)
    pooled = torch.einsum("ng,ngk->nk", shares, tokens)
    torch.testing.assert_close(model.attention(ROWS), shares)
    torch.testing.assert_close(model.embeddings(ROWS), pooled)
    torch.testing.assert_close(
        model(ROWS), pooled @ weights["head.weight"].T + weights["head.bias"]
    )


def test_attention_is_a_share_of_every_group() -> None:
    model = attention(AttentionFusionConfig())
    with torch.no_grad():
        # Far from the near-equal shares of the first weights.
        model.encoder.pooling.score[2].weight.mul_(50)

    shares = model.attention(ROWS * 10)

    assert shares.shape == (40, 3)
    assert (shares >= 0).all()
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(40))
    assert shares.std(dim=0).min() > 0.01
    assert model.attention(ROWS[:0]).shape == (0, 3)


def test_attention_without_scores_is_the_mean_of_the_tokens() -> None:
    model = attention(AttentionFusionConfig(projection=4))
    nn.init.zeros_(model.encoder.pooling.score[2].weight)

    torch.testing.assert_close(model.attention(ROWS), torch.full((40, 3), 1 / 3))
    tokens = torch.stack(tokens_by_hand(model, layer_norm=False))
    torch.testing.assert_close(model.embeddings(ROWS), tokens.mean(dim=0))


@pytest.mark.parametrize(
    ("config", "width"),
    [
        (EarlyFusionConfig(projection=4, hidden=(5,)), 5),
        (EarlyFusionConfig(projection=4, hidden=()), 12),
        (AttentionFusionConfig(projection=4), 4),
        (AttentionFusionConfig(projection=4, hidden=(6,)), 6),
    ],
)
def test_an_embedding_is_what_the_head_sees(config: ModelConfig, width: int) -> None:
    model = built(config)
    assert isinstance(model, EmbeddingModel)
    assert model.embeddings(ROWS).shape == (40, width)
    torch.testing.assert_close(model(ROWS), model.head(model.embeddings(ROWS)))


@pytest.mark.parametrize(
    "config",
    [EarlyFusionConfig(), LateFusionConfig(), AttentionFusionConfig()],
    ids=lambda config: config.kind,
)
def test_training_reaches_the_weights_of_every_group(config: ModelConfig) -> None:
    model = built(config)
    functional.binary_cross_entropy_with_logits(model(ROWS), torch.ones(40, 1)).backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().sum() > 0, name


def test_late_fusion_adds_a_network_for_each_group() -> None:
    model = built(LateFusionConfig(hidden=(4,), norm="layer"))
    assert isinstance(model, LateFusion)

    alone = [
        network(ROWS[:, columns])
        for network, columns in zip(model.networks, GROUPS.values(), strict=True)
    ]
    torch.testing.assert_close(model(ROWS), sum(alone))
    assert [type(layer) for layer in model.networks[0]] == [
        nn.Linear,
        nn.LayerNorm,
        nn.ReLU,
        nn.Linear,
    ]


def test_late_fusion_without_hidden_layers_is_a_logistic_regression() -> None:
    late, regression = built(LateFusionConfig(hidden=())), built(LogisticRegressionConfig())
    with torch.no_grad():
        for network, columns in zip(late.networks, GROUPS.values(), strict=True):
            regression[0].weight[:, columns] = network[0].weight

    torch.testing.assert_close(late(ROWS), regression(ROWS))


@pytest.mark.parametrize(
    "config", [EarlyFusionConfig(), LateFusionConfig(), AttentionFusionConfig()]
)
def test_a_copy_and_its_state_dict_are_the_model(config: ModelConfig) -> None:
    model = built(config)
    other = build_model(config, GROUPS, 0.3, seed=2)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(ROWS), model(ROWS))
    assert torch.equal(copy.deepcopy(model)(ROWS), model(ROWS))

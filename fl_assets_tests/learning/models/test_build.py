import math

import numpy as np
import pytest
import torch
from scipy.special import logit
from torch import nn

from fl_assets.cohorts.spec import load_cohort
from fl_assets.learning.configs import (
    AttentionFusionConfig,
    EarlyFusionConfig,
    EmbeddingConfig,
    LateFusionConfig,
    LogisticRegressionConfig,
    MLPConfig,
    ModelConfig,
)
from fl_assets.learning.features import Preprocessor
from fl_assets.learning.models import FeatureGroupsError, build_model, model_for

PREVALENCE = 0.049
GROUPS = {"history": (1, 2), "bloods": (0, 3, 5), "habits": (6, 4)}
ROWS = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))

MODELS: dict[str, ModelConfig] = {
    "logistic regression": LogisticRegressionConfig(),
    "mlp": MLPConfig(),
    "embedding": EmbeddingConfig(),
    "early fusion": EarlyFusionConfig(),
    "late fusion": LateFusionConfig(norm="layer"),
    "linear late fusion": LateFusionConfig(hidden=()),
    "attention fusion": AttentionFusionConfig(hidden=(8,)),
}


@pytest.fixture(params=MODELS.values(), ids=MODELS.keys())
def config(request: pytest.FixtureRequest) -> ModelConfig:
    found: ModelConfig = request.param
    return found


def test_a_model_gives_one_float32_logit_per_row(config: ModelConfig) -> None:
    model = build_model(config, GROUPS, PREVALENCE, seed=1)

    assert model(ROWS).shape == (5, 1)
    assert model(ROWS[:0]).shape == (0, 1)
    assert {w.dtype for w in model.state_dict().values()} == {torch.float32}


def test_the_biases_of_the_last_layers_add_up_to_the_prevalences_logit(
    config: ModelConfig,
) -> None:
    model = build_model(config, GROUPS, PREVALENCE, seed=1)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.zero_()
            elif weight.shape != (1,):
                weight.fill_(0.0)

    np.testing.assert_allclose(model(ROWS).detach().numpy(), logit(PREVALENCE), rtol=1e-6)


def test_a_logistic_regression_starts_at_the_public_prevalence() -> None:
    model = build_model(LogisticRegressionConfig(), GROUPS, PREVALENCE, seed=1)
    np.testing.assert_allclose(model(ROWS).detach().numpy(), logit(PREVALENCE), rtol=1e-6)


def test_an_mlp_is_linear_layers_with_relu_between() -> None:
    model = build_model(MLPConfig(hidden=(5, 3)), GROUPS, PREVALENCE, seed=1)

    kinds = [type(layer) for layer in model]
    widths = [(x.in_features, x.out_features) for x in model if isinstance(x, nn.Linear)]
    assert kinds == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]
    assert widths == [(7, 5), (5, 3), (3, 1)]


def test_the_layers_are_as_torch_draws_them_in_order() -> None:
    torch.manual_seed(3)
    reference = nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 1))
    nn.init.constant_(reference[2].bias, math.log(PREVALENCE / (1 - PREVALENCE)))

    found = build_model(MLPConfig(hidden=(5,)), GROUPS, PREVALENCE, seed=3).state_dict()

    expected = reference.state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_first_weights_depend_on_the_seed_alone(config: ModelConfig) -> None:
    def first(seed: int) -> torch.Tensor:
        model = build_model(config, GROUPS, PREVALENCE, seed)
        return nn.utils.parameters_to_vector(model.parameters())

    torch.manual_seed(11)
    one = first(1)
    torch.manual_seed(12)
    assert torch.equal(one, first(1))
    # A logistic regression has nothing random.
    assert torch.equal(one, first(2)) == (config == LogisticRegressionConfig())


def test_the_global_generator_is_left_alone(config: ModelConfig) -> None:
    before = torch.get_rng_state()
    build_model(config, GROUPS, PREVALENCE, seed=1)
    assert torch.equal(before, torch.get_rng_state())


def test_a_models_groups_and_prevalence_are_its_preprocessors(config: ModelConfig) -> None:
    preprocessor = Preprocessor.public(load_cohort("stroke"))
    groups, prevalence = preprocessor.feature_groups, preprocessor.cohort.label.prevalence

    found = model_for(config, preprocessor, 3)

    expected = build_model(config, groups, prevalence, 3)
    rows = torch.randn(4, len(preprocessor.feature_names))
    assert torch.equal(found(rows), expected(rows))
    assert list(found.state_dict()) == list(expected.state_dict())


def test_every_feature_counts(config: ModelConfig) -> None:
    model = build_model(config, GROUPS, PREVALENCE, seed=1)
    if config == LogisticRegressionConfig():
        nn.init.ones_(model[0].weight)
    rows = torch.randn(64, 7, requires_grad=True)

    model(rows).sum().backward()

    assert rows.grad is not None
    assert (rows.grad.abs().sum(dim=0) > 0).all()


@pytest.mark.parametrize(
    "groups",
    [{}, {"a": ()}, {"a": (0, 1), "b": (1,)}, {"a": (0, 2)}, {"a": (0,), "b": ()}, {"a": (-1, 0)}],
)
def test_groups_that_are_no_partition_are_refused(groups: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(FeatureGroupsError, match="take them from the preprocessor"):
        build_model(LogisticRegressionConfig(), groups, PREVALENCE, seed=1)

import numpy as np
import pytest
import torch
from scipy.special import logit
from torch import nn

from fl_assets.learning.configs import LogisticRegressionConfig, MLPConfig
from fl_assets.learning.models import build_model

PREVALENCE = 0.049


def test_a_logistic_regression_starts_at_the_public_prevalence() -> None:
    model = build_model(LogisticRegressionConfig(), 7, PREVALENCE, seed=1)

    logits = model(torch.randn(5, 7, generator=torch.Generator().manual_seed(0)))

    np.testing.assert_allclose(logits.detach().numpy(), logit(PREVALENCE), rtol=1e-6)
    assert logits.shape == (5, 1)


def test_an_mlp_is_linear_layers_with_relu_between() -> None:
    model = build_model(MLPConfig(hidden=(5, 3)), 7, PREVALENCE, seed=1)

    kinds = [type(layer) for layer in model]
    widths = [(x.in_features, x.out_features) for x in model if isinstance(x, nn.Linear)]
    assert kinds == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]
    assert widths == [(7, 5), (5, 3), (3, 1)]
    assert model[-1].bias.item() == pytest.approx(logit(PREVALENCE))


def test_the_layers_are_as_torch_draws_them_in_order() -> None:
    torch.manual_seed(3)
    reference = [nn.Linear(7, 5), nn.Linear(5, 1)]

    model = build_model(MLPConfig(hidden=(5,)), 7, PREVALENCE, seed=3)

    assert torch.equal(model[0].weight, reference[0].weight)
    assert torch.equal(model[0].bias, reference[0].bias)
    assert torch.equal(model[2].weight, reference[1].weight)


def test_first_weights_depend_on_the_seed_alone() -> None:
    def first(seed: int) -> torch.Tensor:
        weight: torch.Tensor = build_model(MLPConfig(), 7, PREVALENCE, seed)[0].weight
        return weight

    torch.manual_seed(11)
    one = first(1)
    torch.manual_seed(12)
    assert torch.equal(one, first(1))
    assert not torch.equal(one, first(2))


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    build_model(MLPConfig(), 7, PREVALENCE, seed=1)
    assert torch.equal(before, torch.get_rng_state())

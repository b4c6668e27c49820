import pytest
import torch
from torch import nn

from fl_assets.learning.configs import OptimizerConfig
from fl_assets.learning.fused import build_step
from fl_assets.learning.training import build_optimizer


@pytest.mark.parametrize(
    "config",
    [
        OptimizerConfig(kind="sgd", lr=0.1),
        OptimizerConfig(kind="sgd", lr=0.1, weight_decay=0.3),
        OptimizerConfig(kind="sgd", lr=0.1, momentum=0.9, weight_decay=0.3),
        OptimizerConfig(kind="adam", lr=0.1),
        OptimizerConfig(kind="adam", lr=0.1, weight_decay=0.3),
    ],
)
def test_the_steps_are_those_of_torchs_optimiser_bit_for_bit(config: OptimizerConfig) -> None:
    generator = torch.Generator().manual_seed(0)
    model = nn.Linear(7, 3)
    weights = [w.detach().clone() for w in model.parameters()]
    gradients = [torch.empty_like(w) for w in weights]
    step, descent = build_step(config, weights, gradients), build_optimizer(config, model)

    for _ in range(5):
        for gradient, w in zip(gradients, model.parameters(), strict=True):
            gradient.copy_(torch.randn(w.shape, generator=generator))
            w.grad = gradient.clone()
        step()
        descent.step()

    for ours, theirs in zip(weights, model.parameters(), strict=True):
        assert torch.equal(ours, theirs)

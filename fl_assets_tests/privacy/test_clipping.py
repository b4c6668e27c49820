import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn

from fl_assets.learning.closed_form import linear_chain
from fl_assets.learning.configs import BCEConfig, FocalConfig, WeightedBCEConfig
from fl_assets.learning.losses import Objective, build_objective
from fl_assets.privacy.clipping import ChainClippedSum, Clip
from fl_assets_tests.privacy.models import (
    CHAINS,
    clipped_one_by_one,
    model_of,
    norm,
    row_gradients,
    rows,
)

LOSSES = {
    "bce": build_objective(BCEConfig(), 0.2),
    "balanced": build_objective(WeightedBCEConfig(), 0.2),
    "alpha": build_objective(FocalConfig(gamma=0, alpha=0.25), 0.2),
}


def closed_form(
    model: nn.Module, X: Tensor, targets: Tensor, objective: Objective, clip: float
) -> list[Tensor]:
    # A chain is looked for in float32 models alone, and stays one in float64.
    dtype = X.dtype
    linear = linear_chain(model.float())
    model.to(dtype)
    sums = [torch.full_like(w, math.nan) for w in model.parameters()]
    with torch.no_grad():
        ChainClippedSum(linear, objective, clip, sums)(X, targets)
    return sums


def opacus(
    model: nn.Module, X: Tensor, targets: Tensor, objective: Objective, clip: float
) -> list[Tensor]:
    """The sum that Opacus' optimiser adds its noise to."""
    hooked = GradSampleModule(model, loss_reduction="sum")
    optimizer = DPOptimizer(
        torch.optim.SGD(model.parameters(), lr=0.0),
        noise_multiplier=0.0,
        max_grad_norm=clip,
        expected_batch_size=1,
        loss_reduction="sum",
    )
    # Torch warns of hooks on a layer whose input asks for no gradient.
    (objective(hooked(X.detach().requires_grad_()), targets) * len(X)).backward()
    optimizer.clip_and_accumulate()
    sums = [p.summed_grad.clone() for p in model.parameters()]
    hooked.cleanup()
    return sums


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", CHAINS)
def test_it_is_opacus_clipped_sum(name: str, loss: str) -> None:
    X, targets = (each.double() for each in rows(200))
    model, objective = model_of(name).double(), LOSSES[loss]
    by_row = row_gradients(model, X, targets, objective)
    norms = sorted(norm(row) for row in by_row)
    for clip in (norms[100], norms[0] / 10, norms[-1] * 2):
        found = closed_form(model, X, targets, objective, clip)
        for reference in (
            opacus(model, X, targets, objective, clip),
            clipped_one_by_one(by_row, clip),
        ):
            for ours, theirs in zip(found, reference, strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", CHAINS)
def test_floats_of_half_the_size_give_the_same_to_their_precision(name: str) -> None:
    X, targets = rows(200)
    model, objective = model_of(name), LOSSES["balanced"]
    found = closed_form(model, X, targets, objective, 0.7)
    exact = closed_form(model.double(), X.double(), targets.double(), objective, 0.7)
    for ours, theirs in zip(found, exact, strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-4)


def test_several_outputs_are_averaged_in_a_row_as_the_loss_does() -> None:
    X, _ = rows(30)
    targets = (rows(30, 3, seed=5)[0] > 0).double()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3)).double()
    objective = LOSSES["balanced"]
    by_row = row_gradients(model, X.double(), targets, objective)
    found = closed_form(model, X.double(), targets, objective, 0.5)
    for ours, theirs in zip(found, clipped_one_by_one(by_row, 0.5), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(CHAINS),
    seed=st.integers(0, 1000),
    scale=st.floats(-3, 6).map(lambda x: 10**x),
    clip=st.floats(-2, 2).map(lambda x: 10**x),
)
def test_a_row_more_moves_the_sum_by_at_most_the_clip(
    name: str, seed: int, scale: float, clip: float
) -> None:
    X, targets = (each.double() for each in rows(20, seed=seed))
    X[-1] *= scale
    model, objective = model_of(name, seed).double(), LOSSES["balanced"]
    without = closed_form(model, X[:-1], targets[:-1], objective, clip)
    with_it = closed_form(model, X, targets, objective, clip)
    moved = norm([a - b for a, b in zip(with_it, without, strict=True)])
    assert moved <= clip * (1 + 1e-9)


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e38])
@pytest.mark.parametrize("name", CHAINS)
def test_a_row_beyond_floats_counts_nothing(name: str, bad: float) -> None:
    X, targets = rows(20)
    spoilt = X.clone()
    spoilt[4] = bad
    kept = torch.arange(20) != 4
    model, objective = model_of(name), LOSSES["bce"]
    found = closed_form(model, spoilt, targets, objective, 1.0)
    for ours, theirs in zip(
        found, closed_form(model, X[kept], targets[kept], objective, 1.0), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("name", CHAINS)
def test_no_row_sums_to_zero(name: str) -> None:
    X, targets = rows(0)
    for total in closed_form(model_of(name), X, targets, LOSSES["bce"], 1.0):
        assert not total.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_factors_scale_down_to_the_clip_and_never_up(dtype: torch.dtype) -> None:
    norms = torch.tensor([0.0, 1e-9, 0.5, 1.9999, 2.0, 2.0001, 50.0, 1e30], dtype=dtype)
    scaled = norms.double() * Clip(2.0, dtype).factors(norms).double()
    assert (scaled <= 2.0).all()
    assert (scaled <= norms.double()).all()
    torch.testing.assert_close(scaled, norms.double().clamp(max=2.0), rtol=3e-6, atol=0)

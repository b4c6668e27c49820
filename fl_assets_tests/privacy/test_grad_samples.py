import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fl_assets.learning.configs import BCEConfig, FocalConfig, WeightedBCEConfig
from fl_assets.learning.losses import build_objective
from fl_assets.privacy.grad_samples import (
    UnsupportedModelError,
    grad_sample_sum,
    refuse_mixed_rows,
)
from fl_assets_tests.privacy.models import (
    CONFIGS,
    WIDTH,
    clipped_one_by_one,
    model_of,
    norm,
    row_gradients,
    rows,
)

LOSSES = {
    "bce": build_objective(BCEConfig(), 0.2),
    "balanced": build_objective(WeightedBCEConfig(), 0.2),
    "focal": build_objective(FocalConfig(), 0.2),
}


def by_opacus(
    model: nn.Module, X: Tensor, targets: Tensor, clip: float, loss: str = "bce"
) -> list[Tensor]:
    sums = [torch.full_like(w, math.nan) for w in model.parameters()]
    with torch.no_grad(), grad_sample_sum(model, LOSSES[loss], clip, sums) as write:
        write(X, targets)
    return sums


class Scaled(nn.Module):
    """Weights of its own, beside layers."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.linspace(0.5, 2, WIDTH))
        self.shift = nn.Parameter(torch.tensor(0.3))
        self.layer = nn.Linear(WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x * self.scale + self.shift)


class Twice(nn.Module):
    """A layer that rows pass twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(WIDTH, WIDTH)
        self.last = nn.Linear(WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.layer(torch.tanh(self.layer(x)))))


class Centred(nn.Module):
    """Takes from each row what the others have; no layer gives it away."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(WIDTH, 1)
        nn.init.zeros_(self.layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x - x.mean(0))


class Borrowed(nn.Module):
    """Uses the weights of a layer that rows never pass."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.layer.weight, self.layer.bias)


class Keeping(nn.Module):
    """Remembers rows where no noise is added."""

    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        self.seen += x.detach().sum(0)
        return x


def keeping() -> nn.Module:
    return nn.Sequential(Keeping(), nn.Linear(WIDTH, 1))


class Broken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(WIDTH + 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", CONFIGS)
def test_every_model_gives_each_row_its_clipped_gradient(name: str, loss: str) -> None:
    X, targets = (each.double() for each in rows(40))
    model = model_of(name).double()
    by_row = row_gradients(model, X, targets, LOSSES[loss])
    clip = sorted(norm(row) for row in by_row)[20]
    found = by_opacus(model, X, targets, clip, loss)
    for ours, theirs in zip(found, clipped_one_by_one(by_row, clip), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", [Scaled, Twice])
def test_so_does_a_model_with_layers_that_opacus_does_not_know(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model = kind()
    model.double()
    X, targets = (each.double() for each in rows(40))
    refuse_mixed_rows(kind(), LOSSES["bce"], WIDTH, 1)
    by_row = row_gradients(model, X, targets, LOSSES["bce"])
    found = by_opacus(model, X, targets, 0.5)
    for ours, theirs in zip(found, clipped_one_by_one(by_row, 0.5), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_more_rows_than_fit_at_once_are_added_up() -> None:
    X, targets = (each.double() for each in rows(1100))
    model = model_of("normed").double()
    parts = [
        by_opacus(model, X[part], targets[part], 0.5) for part in (slice(600), slice(600, 1100))
    ]
    for whole, first, second in zip(by_opacus(model, X, targets, 0.5), *parts, strict=True):
        torch.testing.assert_close(whole, first + second)


def test_a_row_beyond_floats_counts_nothing() -> None:
    X, targets = rows(20)
    spoilt = X.clone()
    spoilt[4] = math.nan
    kept = torch.arange(20) != 4
    model = model_of("attention")
    expected = by_opacus(model, X[kept], targets[kept], 0.5)
    for ours, theirs in zip(by_opacus(model, spoilt, targets, 0.5), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_no_row_sums_to_zero_and_frozen_weights_have_no_part() -> None:
    model = model_of("normed")
    for total in by_opacus(model, *rows(0), 0.5):
        assert not total.any()
    first, *others = model.parameters()
    first.requires_grad_(False)
    X, targets = rows(20)
    sums = [torch.empty_like(w) for w in others]
    with torch.no_grad(), grad_sample_sum(model, LOSSES["bce"], 1e9, sums) as write:
        write(X, targets)
    (20 * LOSSES["bce"](model(X), targets)).backward()
    assert first.grad is None
    for ours, weight in zip(sums, others, strict=True):
        torch.testing.assert_close(ours, weight.grad)


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_as_it_was(fails: bool) -> None:
    model = model_of("attention")
    before = [set(vars(module)) for module in model.modules()]
    X, targets = rows(20)
    if fails:
        with pytest.raises(RuntimeError):
            by_opacus(model, X[:, 1:], targets, 0.5)
    else:
        by_opacus(model, X, targets, 0.5)
    assert [set(vars(module)) for module in model.modules()] == before
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._backward_hooks
    for weight in model.parameters():
        assert weight.grad is None
        assert not hasattr(weight, "grad_sample")
        assert not hasattr(weight, "_forward_counter")
    LOSSES["bce"](model(X), targets).backward()


@pytest.mark.parametrize("name", CONFIGS)
def test_every_model_is_let_through(name: str) -> None:
    state = torch.random.get_rng_state()
    model = model_of(name)
    weights = [w.clone() for w in model.parameters()]
    for loss in LOSSES.values():
        refuse_mixed_rows(model, loss, WIDTH, 1)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True))


def test_dropout_mixes_no_rows() -> None:
    model = nn.Sequential(nn.Linear(WIDTH, 8), nn.Dropout(0.5), nn.Tanh(), nn.Linear(8, 1))
    refuse_mixed_rows(model, LOSSES["bce"], WIDTH, 1)
    assert model[1].p == 0.5


@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_is_refused_with_the_cure(affine: bool) -> None:
    model = nn.Sequential(nn.Linear(WIDTH, 8), nn.BatchNorm1d(8, affine=affine), nn.Linear(8, 1))
    running = model[1].running_mean.clone()
    with pytest.raises(UnsupportedModelError, match=r"layer '1', a BatchNorm1d.*`norm: layer`"):
        refuse_mixed_rows(model, LOSSES["bce"], WIDTH, 1)
    assert torch.equal(model[1].running_mean, running)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (Centred, "depends on the rows beside it"),
        (Borrowed, "depends on the rows beside it"),
        (keeping, "or a buffer keeps rows"),
        (Broken, "fails on single random rows"),
    ],
)
def test_what_mixes_rows_in_its_own_way_is_refused(
    build: Callable[[], nn.Module], reason: str
) -> None:
    with pytest.raises(UnsupportedModelError, match=reason):
        refuse_mixed_rows(build(), LOSSES["bce"], WIDTH, 1)

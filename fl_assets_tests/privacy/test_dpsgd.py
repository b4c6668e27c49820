import copy
import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from fl_assets.learning.configs import (
    BCEConfig,
    FocalConfig,
    OptimizerConfig,
    WeightedBCEConfig,
)
from fl_assets.learning.losses import build_objective
from fl_assets.learning.training import train_epochs
from fl_assets.privacy.configs import PrivacyConfig
from fl_assets.privacy.dpsgd import (
    MissingNoiseError,
    TooFewRowsError,
    WeightsOutOfRangeError,
    train_privately,
)
from fl_assets.privacy.grad_samples import UnsupportedModelError
from fl_assets.privacy.noise import SecureNoise, SeededNoise
from fl_assets_tests.privacy.models import (
    CONFIGS,
    WIDTH,
    clipped_one_by_one,
    model_of,
    row_gradients,
    rows,
)

BCE = build_objective(BCEConfig(), 0.2)
OPTIMIZERS = {
    "sgd": OptimizerConfig(lr=0.5),
    "momentum": OptimizerConfig(lr=0.1, momentum=0.9, weight_decay=0.01),
    "adam": OptimizerConfig(kind="adam", lr=0.05, weight_decay=0.01),
}
UNREACHED = 1e6
"""A clip that no row's gradient comes near."""


class Silence(SeededNoise):
    """Draws rows, and no noise."""

    def normal(self, shape: Sequence[int]) -> Tensor:
        return torch.zeros(tuple(shape), dtype=torch.float64)


class Draws(SeededNoise):
    """Draws the rows that it is told to."""

    def __init__(self, *chosen: list[int]) -> None:
        super().__init__(0)
        self._chosen = list(chosen)

    def chosen(self, rows: int, rate: float) -> Tensor:
        drawn = torch.zeros(rows, dtype=torch.bool)
        drawn[self._chosen.pop(0)] = True
        return drawn


class SilentDraws(Draws, Silence):
    """Draws the rows that it is told to, and no noise."""


def train(model: nn.Module, X: Tensor, targets: Tensor, **changes: Any) -> None:
    privacy = {"clip": 1.0, "steps": 1, "sampling_rate": 1.0, "minimum_rows": 1}
    privacy |= {key: changes.pop(key) for key in privacy.keys() & changes.keys()}
    asked = {
        "objective": BCE,
        "optimizer": OPTIMIZERS["sgd"],
        "privacy": PrivacyConfig(epsilon=1.0, **privacy),
        "noise_multiplier": 1.0,
        "noise": Silence(0),
    }
    train_privately(model, X, targets, **asked | changes)


def assert_same(model: nn.Module, reference: nn.Module, **tolerance: float) -> None:
    for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, **tolerance)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", CONFIGS)
def test_without_noise_and_clip_it_is_descent_on_the_mean_loss(name: str, optimizer: str) -> None:
    X, targets = rows(50)
    model = model_of(name)
    reference = copy.deepcopy(model)
    train(model, X, targets, optimizer=OPTIMIZERS[optimizer], clip=UNREACHED, steps=4)
    train_epochs(
        reference,
        X,
        targets,
        objective=BCE,
        optimizer=OPTIMIZERS[optimizer],
        epochs=4,
        batch_size=50,
        seed=0,
    )
    # Adam divides by roots of squares, of which some are next to nothing.
    assert_same(model, reference, rtol=1e-3, atol=1e-3 if optimizer == "adam" else 1e-5)


@pytest.mark.parametrize("loss", [BCEConfig(), WeightedBCEConfig(), FocalConfig()])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_step_is_the_clipped_sum_over_the_expected_rows(name: str, loss: Any) -> None:
    X, targets = rows(60)
    objective = build_objective(loss, 0.2)
    model = model_of(name)
    reference = copy.deepcopy(model)
    drawn = [3, 7, 8, 20, 41]
    train(
        model,
        X,
        targets,
        objective=objective,
        clip=0.4,
        sampling_rate=0.25,
        noise=SilentDraws(drawn),
    )
    by_row = row_gradients(reference, X[drawn], targets[drawn], objective)
    with torch.no_grad():
        # 15 rows are expected; that 5 came is nobody's business.
        for weight, total in zip(
            reference.parameters(), clipped_one_by_one(by_row, 0.4), strict=True
        ):
            weight -= 0.5 * total / 15
    assert_same(model, reference, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["lr", "mlp", "normed", "attention"])
def test_the_noise_is_what_was_asked_for_on_every_weight(name: str) -> None:
    X, targets = rows(200)
    noisy, silent = model_of(name), model_of(name)
    moved = []
    for seed in range(30):
        for model, noise in ((noisy, SeededNoise(seed)), (silent, Silence(seed))):
            model.load_state_dict(model_of(name).state_dict())
            train(model, X, targets, clip=0.5, noise_multiplier=3.0, noise=noise)
        moved.append(
            torch.cat(
                [
                    (a - b).detach().flatten()
                    for a, b in zip(noisy.parameters(), silent.parameters(), strict=True)
                ]
            )
        )
    # Learning rate times noise multiplier times clip over rows.
    standard = torch.stack(moved).double() / (0.5 * 3.0 * 0.5 / 200)
    assert stats.kstest(standard.flatten().numpy(), "norm").pvalue > 1e-3
    # Every weight has noise of its own.
    by_weight = standard.square().sum(0)
    assert by_weight.min() > stats.chi2.ppf(1e-8, 30)
    assert by_weight.max() < stats.chi2.isf(1e-8, 30)


@pytest.mark.parametrize("name", ["lr", "attention"])
def test_a_draw_without_a_row_makes_a_step_of_noise(name: str) -> None:
    X, targets = rows(40)
    model, other = model_of(name), model_of(name)
    start = copy.deepcopy(model)
    train(model, X, targets, sampling_rate=0.1, noise=Draws([]))
    train(other, -X, 1 - targets, sampling_rate=0.1, noise=Draws([]))
    assert_same(model, other, rtol=0, atol=0)
    moved = [a - b for a, b in zip(model.parameters(), start.parameters(), strict=True)]
    assert all(part.abs().min() > 0 for part in moved)


def test_rows_are_drawn_at_the_rate_and_anew_in_every_step() -> None:
    class Counting(Silence):
        drawn: list[Tensor]

        def chosen(self, rows: int, rate: float) -> Tensor:
            self.drawn = [*getattr(self, "drawn", []), super().chosen(rows, rate)]
            return self.drawn[-1]

    noise = Counting(3)
    train(model_of("lr"), *rows(500), sampling_rate=0.1, steps=200, noise=noise)
    drawn = torch.stack(noise.drawn)
    assert drawn.shape == (200, 500)
    assert stats.binomtest(int(drawn.sum()), drawn.numel(), 0.1).pvalue > 1e-3
    assert drawn.any(0).all()


def test_every_row_is_in_every_step_without_sampling() -> None:
    # It has no rows to draw.
    train(model_of("lr"), *rows(20), noise=SilentDraws(), steps=5)


@pytest.mark.parametrize("name", ["mlp", "normed"])
def test_the_proximal_term_pulls_to_the_start_and_sees_no_noise(name: str) -> None:
    X, targets = rows(50)
    model, start = model_of(name), model_of(name)
    reference = copy.deepcopy(model)
    train(model, X, targets, clip=0.3, steps=2, proximal_mu=0.7, noise=SeededNoise(5))
    # The same two steps by hand: the second starts at a distance from the start.
    noise = SeededNoise(5)
    for _ in range(2):
        totals = clipped_one_by_one(row_gradients(reference, X, targets, BCE), 0.3)
        drawn = noise.normal((sum(t.numel() for t in totals),)) * 0.3
        with torch.no_grad():
            for weight, total, anchor, part in zip(
                reference.parameters(),
                totals,
                start.parameters(),
                drawn.split([t.numel() for t in totals]),
                strict=True,
            ):
                noised = ((total.double() + part.view_as(total)) / 50).float()
                weight -= 0.5 * (noised + 0.7 * (weight - anchor))
    assert_same(model, reference, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_seed_gives_the_same_weights_again_and_chance_others(name: str) -> None:
    found = []
    for noise in (SeededNoise(1), SeededNoise(1), SecureNoise(), SecureNoise()):
        found.append(model_of(name))
        train(found[-1], *rows(60), sampling_rate=0.5, steps=3, noise=noise)
    first, again, one, another = (torch.cat([w.flatten() for w in m.parameters()]) for m in found)
    assert torch.equal(first, again)
    assert (one != another).all()


def test_it_learns() -> None:
    X, _ = rows(2000)
    targets = (X[:, :1] > 0).float()
    model = model_of("lr")
    train(model, X, targets[:, 0], steps=60, noise=SecureNoise(), noise_multiplier=5.0)
    assert ((model(X) > 0) == (targets > 0)).float().mean() > 0.9


def test_batch_norm_is_refused_before_any_step() -> None:
    model = nn.Sequential(nn.Linear(WIDTH, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 1))
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(UnsupportedModelError, match="BatchNorm"):
        train(model, *rows(50), noise=SecureNoise())
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in before)


def test_a_small_cohort_is_refused() -> None:
    model = model_of("lr")
    with pytest.raises(TooFewRowsError, match=r"99 training rows .* 100 .*minimum_rows"):
        train(model, *rows(99), minimum_rows=100)
    train(model, *rows(100), minimum_rows=100)


@pytest.mark.parametrize("noise_multiplier", [0.0, -1.0, math.nan, math.inf])
def test_no_step_goes_without_noise(noise_multiplier: float) -> None:
    model = model_of("lr")
    with pytest.raises(MissingNoiseError):
        train(model, *rows(20), noise_multiplier=noise_multiplier)
    assert_same(model, model_of("lr"), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["mlp", "normed"])
def test_weights_beyond_floats_are_told_and_nothing_else(name: str) -> None:
    huge = OptimizerConfig(lr=1e38)
    with pytest.raises(WeightsOutOfRangeError, match="lower the learning rate") as error:
        train(model_of(name), *rows(20), optimizer=huge, noise=SeededNoise(0), noise_multiplier=1e3)
    assert not any(character.isdigit() for character in str(error.value))

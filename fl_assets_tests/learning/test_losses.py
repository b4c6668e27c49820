from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from fl_assets.learning.configs import BCEConfig, FocalConfig, LossConfig, WeightedBCEConfig
from fl_assets.learning.losses import build_objective, reconstruction_error

PREVALENCE = 0.049


@pytest.fixture(scope="module")
def rows() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(101, 1, generator=generator)
    return logits, (torch.rand(101, 1, generator=generator) < 0.3).float()


def with_gradient(objective: Any, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    leaf = logits.clone().requires_grad_()
    loss = objective(leaf, targets)
    loss.backward()
    assert leaf.grad is not None
    return loss.detach(), leaf.grad


def assert_same_bits(ours: LossConfig, other: Any, rows: tuple[Tensor, Tensor]) -> None:
    found = with_gradient(build_objective(ours, PREVALENCE), *rows)
    expected = with_gradient(other, *rows)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


def test_bce_is_torchs(rows: tuple[Tensor, Tensor]) -> None:
    assert_same_bits(BCEConfig(), functional.binary_cross_entropy_with_logits, rows)


@pytest.mark.parametrize("weight", [0.2, 7.5, None])
def test_weighted_bce_is_torchs_with_a_positive_weight(
    rows: tuple[Tensor, Tensor], weight: float | None
) -> None:
    objective = build_objective(WeightedBCEConfig(positive_weight=weight), PREVALENCE)

    resolved = 0.951 / 0.049 if weight is None else weight
    reference = torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(resolved))
    for found, expected in zip(
        with_gradient(objective, *rows), with_gradient(reference, *rows), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-8)
    assert objective.positive_weight == pytest.approx(resolved)


def test_the_default_weight_lets_both_labels_weigh_the_same() -> None:
    objective = build_objective(WeightedBCEConfig(), 0.25)
    _, gradient = with_gradient(objective, torch.zeros(4, 1), torch.tensor([[1.0], [0], [0], [0]]))
    assert gradient.sum().item() == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize(
    "config", [WeightedBCEConfig(positive_weight=1), FocalConfig(gamma=0)], ids=lambda c: c.kind
)
def test_what_degenerates_to_bce_is_bce_bit_for_bit(
    rows: tuple[Tensor, Tensor], config: LossConfig
) -> None:
    assert_same_bits(config, build_objective(BCEConfig(), PREVALENCE), rows)


def test_focal_without_discount_is_a_weighted_cross_entropy(rows: tuple[Tensor, Tensor]) -> None:
    focal = build_objective(FocalConfig(gamma=0, alpha=0.8), PREVALENCE)
    weighted = build_objective(WeightedBCEConfig(positive_weight=4), PREVALENCE)
    torch.testing.assert_close(focal(*rows), 0.2 * weighted(*rows))


def published_focal(
    logits: Tensor, targets: Tensor, gamma: float, alpha: float | None
) -> tuple[float, np.ndarray[Any, Any]]:
    """Lin et al. 2017: equation 5 and, times dp/dx, its derivative, in double precision."""
    x = logits.double().numpy()
    sign = 2 * targets.double().numpy() - 1
    p = 1 / (1 + np.exp(-sign * x))
    weight = np.ones_like(x) if alpha is None else np.where(sign > 0, alpha, 1 - alpha)
    losses = -weight * (1 - p) ** gamma * np.log(p)
    # Their appendix B: dL/dx = y (1 - p)^gamma (gamma p log(p) + p - 1).
    gradients = weight * sign * (1 - p) ** gamma * (gamma * p * np.log(p) + p - 1)
    return losses.mean(), gradients / len(x)


@pytest.mark.parametrize("alpha", [None, 0.25])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
def test_focal_is_the_published_formula(
    rows: tuple[Tensor, Tensor], gamma: float, alpha: float | None
) -> None:
    objective = build_objective(FocalConfig(gamma=gamma, alpha=alpha), PREVALENCE)

    loss, gradient = with_gradient(objective, *rows)

    expected, slope = published_focal(*rows, gamma, alpha)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(gradient.numpy(), slope, rtol=1e-4, atol=1e-8)


def torchvisions_focal(logits: Tensor, targets: Tensor, alpha: float, gamma: float) -> Tensor:
    """As torchvision.ops.sigmoid_focal_loss writes it, with reduction="mean"."""
    p = torch.sigmoid(logits)
    ce_loss = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    p_t = p * targets + (1 - p) * (1 - targets)
    alpha_t = alpha * targets + (1 - alpha) * (1 - targets)
    return (alpha_t * ce_loss * ((1 - p_t) ** gamma)).mean()


def test_focal_is_torchvisions(rows: tuple[Tensor, Tensor]) -> None:
    objective = build_objective(FocalConfig(gamma=2.0, alpha=0.25), PREVALENCE)
    for found, expected in zip(
        with_gradient(objective, *rows),
        with_gradient(lambda x, y: torchvisions_focal(x, y, 0.25, 2.0), *rows),
        strict=True,
    ):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("gamma", [0.3, 2.0])
def test_focal_stays_finite_where_a_sigmoid_saturates(gamma: float) -> None:
    logits = torch.tensor([[200.0], [-200.0], [200.0], [-200.0]])
    targets = torch.tensor([[1.0], [0.0], [0.0], [1.0]])

    loss, gradient = with_gradient(
        build_objective(FocalConfig(gamma=gamma), PREVALENCE), logits, targets
    )

    # Nothing for the two that are right, the whole distance for the two that are wrong.
    assert loss.item() == pytest.approx(100)
    np.testing.assert_allclose(gradient[:, 0], [0, 0, 0.25, -0.25], atol=1e-12)
    _, naive = with_gradient(lambda x, y: torchvisions_focal(x, y, 0.5, 0.3), logits, targets)
    assert naive.isnan().any()


def test_focal_discounts_what_is_right_already() -> None:
    def share(gamma: float) -> float:
        objective = build_objective(FocalConfig(gamma=gamma), PREVALENCE)
        easy, hard = (objective(torch.tensor([[x]]), torch.ones(1, 1)).item() for x in (3.0, -1.0))
        return easy / hard

    assert share(5) < share(2) < share(0.5) < share(0)


def test_an_objective_says_what_it_is() -> None:
    config = FocalConfig(gamma=1.5, alpha=0.75)
    found = build_objective(config, PREVALENCE)
    assert found.config == config
    assert (found.positive_weight, found.negative_weight, found.gamma) == (0.75, 0.25, 1.5)
    plain = build_objective(BCEConfig(), PREVALENCE)
    assert (plain.positive_weight, plain.negative_weight, plain.gamma) == (1, 1, 0)


def test_the_reconstruction_error_is_the_mean_over_all_entries() -> None:
    features = torch.tensor([[1.0, 2.0], [3.0, 4.0], [0.0, 0.0]])
    decoded = torch.tensor([[1.0, 0.0], [3.0, 3.0], [1.0, 0.0]])
    assert reconstruction_error(decoded, features).item() == pytest.approx((4 + 1 + 1) / 6)

import copy
import random
from collections.abc import Callable
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from fl_assets.learning.configs import (
    BCEConfig,
    FocalConfig,
    LogisticRegressionConfig,
    MLPConfig,
    OptimizerConfig,
    WeightedBCEConfig,
)
from fl_assets.learning.losses import build_objective, reconstruction_error
from fl_assets.learning.models import build_model
from fl_assets.learning.training import (
    TrainingDivergedError,
    build_optimizer,
    derive_seed,
    predict,
    train_epochs,
)

ROWS, WIDTH, BATCH, SEED = 83, 6, 16, 5
GROUPS = {"all": range(WIDTH)}
BCE = build_objective(BCEConfig(), 0.3)


@pytest.fixture(scope="module")
def patients() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(ROWS, WIDTH, generator=generator)
    risk = torch.sigmoid(1.5 * X[:, 0] - X[:, 1] - 1)
    return X, (torch.rand(ROWS, generator=generator) < risk).float()


def mlp() -> nn.Module:
    return build_model(MLPConfig(hidden=(8, 4)), GROUPS, 0.3, seed=1)


def weight_three(y: Tensor) -> Tensor:
    return torch.where(y == 1, 3.0, 1.0)


def no_weight(y: Tensor) -> Tensor:
    return torch.ones_like(y)


def by_hand(
    model: nn.Module,
    X: Tensor,
    y: Tensor,
    config: OptimizerConfig,
    epochs: int,
    mu: float,
    weight: Callable[[Tensor], Tensor],
) -> float:
    """The same maths written plainly: the update rules spelled out, the penalty by autograd."""
    weights = list(model.parameters())
    start = [w.detach().clone() for w in weights]
    first, second = ([torch.zeros_like(w) for w in weights] for _ in range(2))
    shuffle = torch.Generator().manual_seed(SEED)
    step = 0
    for _ in range(epochs):
        order = torch.randperm(len(X), generator=shuffle).tolist()
        total = 0.0
        for low in range(0, len(X), BATCH):
            rows = order[low : low + BATCH]
            p = torch.sigmoid(model(X[rows]).squeeze(1))
            likelihood = torch.where(y[rows] == 1, p, 1 - p)
            loss = -(weight(y[rows]) * likelihood.log()).mean()
            total += loss.item() * len(rows)
            penalty = sum(((w - s) ** 2).sum() for w, s in zip(weights, start, strict=True))
            gradients = torch.autograd.grad(loss + mu / 2 * penalty, weights)
            step += 1
            with torch.no_grad():
                for w, g, m, v in zip(weights, gradients, first, second, strict=True):
                    g = g + config.weight_decay * w
                    if config.kind == "sgd":
                        m.mul_(config.momentum).add_(g)
                        w -= config.lr * m
                    else:
                        m.mul_(0.9).add_(0.1 * g)
                        v.mul_(0.999).add_(0.001 * g * g)
                        corrected = (v / (1 - 0.999**step)).sqrt() + 1e-8
                        w -= config.lr * (m / (1 - 0.9**step)) / corrected
    return total / len(X)


@pytest.mark.parametrize("closed_form", [True, False], ids=["closed form", "autograd"])
@pytest.mark.parametrize("mu", [0.0, 0.7])
@pytest.mark.parametrize(
    ("loss", "weight"),
    [(BCEConfig(), no_weight), (WeightedBCEConfig(positive_weight=3.0), weight_three)],
    ids=["bce", "weighted"],
)
@pytest.mark.parametrize(
    "config",
    [
        OptimizerConfig(kind="sgd", lr=0.1),
        OptimizerConfig(kind="sgd", lr=0.05, momentum=0.9, weight_decay=0.01),
        OptimizerConfig(kind="adam", lr=0.01, weight_decay=0.01),
    ],
    ids=["sgd", "momentum", "adam"],
)
def test_training_equals_the_rules_written_out(
    patients: tuple[Tensor, Tensor],
    config: OptimizerConfig,
    loss: BCEConfig | WeightedBCEConfig,
    weight: Callable[[Tensor], Tensor],
    mu: float,
    closed_form: bool,
) -> None:
    X, y = patients
    model, reference = mlp(), mlp()

    found = train_epochs(
        model,
        X,
        y,
        objective=build_objective(loss, 0.3),
        optimizer=config,
        epochs=3,
        batch_size=BATCH,
        seed=SEED,
        proximal_mu=mu,
        closed_form=closed_form,
    )

    assert found == pytest.approx(by_hand(reference, X, y, config, 3, mu, weight), rel=1e-4)
    for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(
    "objective", [reconstruction_error, build_objective(FocalConfig(), 0.3)], ids=["mse", "focal"]
)
def test_any_objective_and_any_width_of_targets(
    patients: tuple[Tensor, Tensor], objective: Callable[[Tensor, Tensor], Tensor]
) -> None:
    X, y = patients
    outputs = WIDTH if objective is reconstruction_error else 1
    targets = X if objective is reconstruction_error else y
    model = nn.Sequential(nn.Linear(WIDTH, 3), nn.Tanh(), nn.Linear(3, outputs))
    plain, config = copy.deepcopy(model), OptimizerConfig(lr=0.1)

    found = train_epochs(
        model,
        X,
        targets,
        objective=objective,
        optimizer=config,
        epochs=2,
        batch_size=BATCH,
        seed=SEED,
    )

    descent = torch.optim.SGD(plain.parameters(), lr=0.1)
    shuffle = torch.Generator().manual_seed(SEED)
    for _ in range(2):
        order = torch.randperm(ROWS, generator=shuffle)
        losses = []
        for low in range(0, ROWS, BATCH):
            rows = order[low : low + BATCH]
            descent.zero_grad()
            loss = objective(plain(X[rows]), targets[rows].view(len(rows), outputs))
            loss.backward()
            descent.step()
            losses += [loss.item()] * len(rows)
    assert found == pytest.approx(np.mean(losses), rel=1e-5)
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_logistic_regression_converges_to_scikit_learns(patients: tuple[Tensor, Tensor]) -> None:
    X, y = patients
    model = build_model(LogisticRegressionConfig(), GROUPS, 0.3, seed=0)

    for lr in (1.0, 0.3):
        train_epochs(
            model,
            X,
            y,
            objective=BCE,
            optimizer=OptimizerConfig(kind="sgd", lr=lr, momentum=0.9),
            epochs=300,
            batch_size=ROWS,
            seed=0,
        )

    fit = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(X.numpy(), y.numpy())
    np.testing.assert_allclose(model[0].weight.detach().numpy(), fit.coef_, rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(
        predict(model, X), fit.predict_proba(X.numpy())[:, 1], rtol=0, atol=1e-3
    )


def test_one_full_step_moves_by_the_gradient_of_loss_and_penalty(
    patients: tuple[Tensor, Tensor],
) -> None:
    # A penalty has no gradient at its own start, so the second of two steps is looked at.
    X, y = patients
    config, mu = OptimizerConfig(kind="sgd", lr=0.5), 0.7
    model, after_one = mlp(), mlp()
    start = [p.detach().clone() for p in model.parameters()]
    arguments: dict[str, Any] = {
        "objective": BCE,
        "optimizer": config,
        "batch_size": ROWS,
        "seed": SEED,
    }
    train_epochs(after_one, X, y, epochs=1, proximal_mu=mu, **arguments)
    train_epochs(model, X, y, epochs=2, proximal_mu=mu, **arguments)

    weights = list(after_one.parameters())
    objective = nn.functional.binary_cross_entropy_with_logits(after_one(X).squeeze(1), y)
    objective = objective + mu / 2 * sum(
        (w - s).square().sum() for w, s in zip(weights, start, strict=True)
    )
    gradients = torch.autograd.grad(objective, weights)
    for ours, w, g in zip(model.parameters(), weights, gradients, strict=True):
        torch.testing.assert_close(ours, w - 0.5 * g, rtol=1e-5, atol=1e-6)


def test_without_a_penalty_it_is_plain_training_bit_for_bit(
    patients: tuple[Tensor, Tensor],
) -> None:
    X, y = patients
    config = OptimizerConfig(kind="sgd", lr=0.1, momentum=0.9)
    model, plain = mlp(), mlp()

    train_epochs(
        model,
        X,
        y,
        objective=BCE,
        optimizer=config,
        epochs=2,
        batch_size=BATCH,
        seed=SEED,
        proximal_mu=0.0,
    )

    descent = build_optimizer(config, plain)
    shuffle = torch.Generator().manual_seed(SEED)
    for _ in range(2):
        order = torch.randperm(ROWS, generator=shuffle)
        for low in range(0, ROWS, BATCH):
            rows = order[low : low + BATCH]
            descent.zero_grad()
            nn.functional.binary_cross_entropy_with_logits(
                plain(X[rows]), y[rows].unsqueeze(1)
            ).backward()
            descent.step()
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_the_penalty_holds_the_weights_near_their_start(patients: tuple[Tensor, Tensor]) -> None:
    def moved(mu: float) -> float:
        model = mlp()
        start = copy.deepcopy(model)
        train_epochs(
            model,
            *patients,
            objective=BCE,
            optimizer=OptimizerConfig(lr=0.1),
            epochs=20,
            batch_size=BATCH,
            seed=SEED,
            proximal_mu=mu,
        )
        pairs = zip(model.parameters(), start.parameters(), strict=True)
        return sum((a - b).square().sum().item() for a, b in pairs)

    assert moved(5.0) < moved(0.5) < moved(0.0)


def test_the_shuffles_depend_on_the_seed_and_on_nothing_global(
    patients: tuple[Tensor, Tensor],
) -> None:
    def trained(seed: int) -> Tensor:
        model = mlp()
        train_epochs(
            model,
            *patients,
            objective=BCE,
            optimizer=OptimizerConfig(),
            epochs=2,
            batch_size=BATCH,
            seed=seed,
        )
        return nn.utils.parameters_to_vector(model.parameters())

    torch.manual_seed(1)
    one = trained(SEED)
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    again, other = trained(SEED), trained(SEED + 1)

    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state()[1].tolist() == states[1]
    assert random.getstate() == states[2]


@pytest.mark.parametrize("closed_form", [True, False], ids=["closed form", "autograd"])
@pytest.mark.parametrize("config", [MLPConfig(hidden=(8,)), LogisticRegressionConfig()])
def test_divergence_says_what_to_do(
    patients: tuple[Tensor, Tensor],
    config: MLPConfig | LogisticRegressionConfig,
    closed_form: bool,
) -> None:
    model = build_model(config, GROUPS, 0.3, seed=1)
    with pytest.raises(TrainingDivergedError, match="lower the learning rate"):
        train_epochs(
            model,
            *patients,
            objective=BCE,
            optimizer=OptimizerConfig(lr=1e6),
            epochs=3,
            batch_size=BATCH,
            seed=1,
            closed_form=closed_form,
        )


def test_a_heavy_label_is_no_divergence() -> None:
    model = build_model(LogisticRegressionConfig(), GROUPS, 0.01, seed=1)
    loss = train_epochs(
        model,
        torch.zeros(4, WIDTH),
        torch.ones(4),
        objective=build_objective(WeightedBCEConfig(), 0.01),
        optimizer=OptimizerConfig(lr=1e-9),
        epochs=1,
        batch_size=4,
        seed=1,
    )
    # A weight of 99 on -log(0.01) is far beyond what an unweighted row can lose.
    assert loss == pytest.approx(-99 * np.log(0.01), rel=1e-5)


def test_predictions_are_the_sigmoid_of_the_logits(patients: tuple[Tensor, Tensor]) -> None:
    X, _ = patients
    model = mlp()

    found = predict(model, X)

    logits = model(X).detach().numpy().astype(np.float64)[:, 0]
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-logits)), rtol=1e-12)
    assert found.dtype == np.float64
    assert predict(model, X[:0]).shape == (0,)


def test_confident_predictions_keep_their_order() -> None:
    model = nn.Sequential(nn.Linear(1, 1))
    nn.init.ones_(model[0].weight)
    nn.init.zeros_(model[0].bias)
    low, high = predict(model, torch.tensor([[20.0], [25.0]]))
    assert low < high < 1.0


def test_derived_seeds_depend_on_every_part() -> None:
    seeds = {
        derive_seed(42, "hospital-a", 1),
        derive_seed(43, "hospital-a", 1),
        derive_seed(42, "hospital-b", 1),
        derive_seed(42, "hospital-a", 2),
        derive_seed("42hospital-a", 1),
        derive_seed(4, "2", "hospital-a", 1),
    }
    assert len(seeds) == 6
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed(42, "hospital-a", 1) == derive_seed(42, "hospital-a", 1)


def test_a_new_thread_works_on_one_core_as_well(patients: tuple[Tensor, Tensor]) -> None:
    X, y = patients
    found: list[int] = []

    def train() -> None:
        train_epochs(
            mlp(),
            X,
            y,
            objective=BCE,
            optimizer=OptimizerConfig(),
            epochs=1,
            batch_size=BATCH,
            seed=SEED,
        )

    def work(job: Callable[[], object]) -> None:
        job()
        found.append(torch.get_num_threads())

    before = torch.get_num_threads()
    try:
        for job in (train, lambda: predict(mlp(), X)):
            torch.set_num_threads(2)
            thread = Thread(target=work, args=(job,))
            thread.start()
            thread.join()
    finally:
        torch.set_num_threads(before)
    assert found == [1, 1]

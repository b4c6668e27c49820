import copy
import itertools
from collections import OrderedDict
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fl_assets.learning import training
from fl_assets.learning.closed_form import linear_chain
from fl_assets.learning.configs import (
    BCEConfig,
    EmbeddingConfig,
    FocalConfig,
    LogisticRegressionConfig,
    LossConfig,
    MLPConfig,
    ModelConfig,
    OptimizerConfig,
    WeightedBCEConfig,
)
from fl_assets.learning.losses import build_objective, reconstruction_error
from fl_assets.learning.models import build_model
from fl_assets.learning.training import train_epochs

WIDTH = 16
SGD = OptimizerConfig(kind="sgd", lr=0.03, momentum=0.9, weight_decay=1e-3)
ADAM = OptimizerConfig(kind="adam", lr=1e-2, weight_decay=1e-3)


def rows(count: int, width: int = WIDTH, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Rows at a low label rate, like those of a cohort."""
    generator = torch.Generator().manual_seed(seed)
    X = torch.randn(count, width, generator=generator)
    risk = torch.sigmoid(2 * X[:, 0] - 3)
    return X, (torch.rand(count, generator=generator) < risk).float()


def both_ways(model: nn.Module, X: Tensor, y: Tensor, **changes: Any) -> None:
    """Train a copy by autograd and the model in closed form; all bits must agree."""
    asked: dict[str, Any] = {
        "objective": build_objective(BCEConfig(), 0.1),
        "optimizer": SGD,
        "epochs": 2,
        "batch_size": 32,
        "seed": 3,
    }
    reference = copy.deepcopy(model)
    loss = train_epochs(model, X, y, **asked | changes)
    expected = train_epochs(reference, X, y, **asked | changes, closed_form=False)
    assert loss == expected
    for (name, ours), theirs in zip(model.named_parameters(), reference.parameters(), strict=True):
        assert torch.equal(ours, theirs), name


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    """As at a site: waiting for a second thread would be most of the time."""
    torch.set_num_threads(1)


@pytest.fixture
def no_autograd(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make sure that it is the closed form that ran, where autograd is not asked for."""
    original = training.train_epochs

    def guarded(*args: Any, closed_form: bool = True, **kwargs: Any) -> float:
        with torch.set_grad_enabled(not closed_form):
            return original(*args, closed_form=closed_form, **kwargs)

    monkeypatch.setitem(globals(), "train_epochs", guarded)


@pytest.mark.usefixtures("no_autograd")
@pytest.mark.parametrize("mu", [0.0, 0.1])
@pytest.mark.parametrize("optimizer", [OptimizerConfig(), SGD, ADAM], ids=["plain", "sgd", "adam"])
@pytest.mark.parametrize(
    "loss",
    [
        BCEConfig(),
        WeightedBCEConfig(),
        WeightedBCEConfig(positive_weight=0.5),
        FocalConfig(gamma=0, alpha=0.25),
    ],
    ids=["bce", "balanced", "light", "alpha"],
)
@pytest.mark.parametrize(
    "model",
    [
        LogisticRegressionConfig(),
        MLPConfig(),
        MLPConfig(hidden=(5,)),
        EmbeddingConfig(encoder=(12, 7), norm="none"),
    ],
    ids=["lr", "mlp", "small", "embedding"],
)
def test_it_gives_the_bits_of_autograd(
    model: ModelConfig, loss: LossConfig, optimizer: OptimizerConfig, mu: float
) -> None:
    # 100 rows: the last batch has 4.
    both_ways(
        build_model(model, {"all": range(WIDTH)}, 0.1, seed=1),
        *rows(100),
        objective=build_objective(loss, 0.1),
        optimizer=optimizer,
        proximal_mu=mu,
    )


@pytest.mark.usefixtures("no_autograd")
@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 70),
    batch=st.integers(1, 80),
    width=st.integers(1, 40),
    hidden=st.lists(st.integers(2, 40), max_size=3),
    outputs=st.integers(1, 3),
    optimizer=st.sampled_from([SGD, ADAM]),
    seed=st.integers(0, 9),
)
def test_in_any_shape(
    count: int,
    batch: int,
    width: int,
    hidden: list[int],
    outputs: int,
    optimizer: OptimizerConfig,
    seed: int,
) -> None:
    X, y = rows(count, width, seed)
    layers: list[nn.Module] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for inputs, out in itertools.pairwise([width, *hidden, outputs]):
            layers += [nn.Linear(inputs, out), nn.ReLU()]
    both_ways(
        nn.Sequential(*layers[:-1]),
        X,
        y.unsqueeze(1).repeat(1, outputs),
        optimizer=optimizer,
        batch_size=batch,
        proximal_mu=0.3,
    )


@pytest.mark.usefixtures("no_autograd")
def test_the_bits_stay_the_same_over_fifty_rounds() -> None:
    model = build_model(MLPConfig(hidden=(16, 8)), {"all": range(WIDTH)}, 0.1, seed=1)
    X, y = rows(90)
    for round_ in range(50):
        both_ways(model, X, y, optimizer=ADAM, epochs=5, seed=round_, proximal_mu=0.1)


class Doubled(nn.Sequential):
    """Looks like a chain and is none."""

    def forward(self, x: Tensor) -> Tensor:
        """Double the chain's answer."""
        answer: Tensor = 2 * super().forward(x)
        return answer


def frozen() -> nn.Sequential:
    model = nn.Sequential(nn.Linear(WIDTH, 4), nn.ReLU(), nn.Linear(4, 1))
    model[0].weight.requires_grad_(False)
    return model


def shared() -> nn.Sequential:
    layer = nn.Linear(WIDTH, WIDTH)
    return nn.Sequential(layer, nn.ReLU(), layer, nn.ReLU(), nn.Linear(WIDTH, 1))


OTHERS = {
    "norm": lambda: build_model(EmbeddingConfig(encoder=(4,)), {"all": range(WIDTH)}, 0.1, 1),
    "own forward": lambda: Doubled(nn.Linear(WIDTH, 1)),
    "frozen": frozen,
    "shared": shared,
    "no bias": lambda: nn.Sequential(nn.Linear(WIDTH, 1, bias=False)),
    "width one": lambda: nn.Sequential(nn.Linear(WIDTH, 1), nn.ReLU(), nn.Linear(1, 1)),
    "two linear": lambda: nn.Sequential(nn.Linear(WIDTH, 3), nn.Linear(3, 1)),
    "ends in ReLU": lambda: nn.Sequential(nn.Linear(WIDTH, 1), nn.ReLU()),
    "begins with ReLU": lambda: nn.Sequential(nn.ReLU(), nn.Linear(WIDTH, 1)),
    "tanh": lambda: nn.Sequential(nn.Linear(WIDTH, 3), nn.Tanh(), nn.Linear(3, 1)),
}


@pytest.mark.parametrize("other", OTHERS)
def test_another_model_goes_to_autograd(other: str) -> None:
    model = OTHERS[other]()
    assert linear_chain(model) is None
    both_ways(model, *rows(50))


def test_an_empty_chain_is_none() -> None:
    assert linear_chain(nn.Sequential()) is None


def test_double_precision_goes_to_autograd() -> None:
    model = nn.Sequential(nn.Linear(WIDTH, 1)).double()
    X, y = rows(50)
    assert linear_chain(model) is None
    both_ways(model, X.double(), y.double())


def test_another_objective_goes_to_autograd() -> None:
    X, y = rows(50)
    both_ways(nn.Sequential(nn.Linear(WIDTH, WIDTH)), X, X, objective=reconstruction_error)
    focal = build_objective(FocalConfig(), 0.1)
    both_ways(nn.Sequential(nn.Linear(WIDTH, 1)), X, y, objective=focal)


def test_a_chain_may_be_nested() -> None:
    first, last = nn.Linear(WIDTH, 3), nn.Linear(3, 1)
    encoder = nn.Sequential(first, nn.ReLU())
    assert linear_chain(nn.Sequential(OrderedDict(encoder=encoder, head=last))) == [first, last]
    assert linear_chain(last) == [last]


def test_autograd_can_go_on_with_the_model() -> None:
    model = build_model(MLPConfig(hidden=(4,)), {"all": range(WIDTH)}, 0.1, seed=1)
    X, y = rows(50)
    both_ways(model, X, y)
    assert all(w.grad is None for w in model.parameters())
    torch.sum(model(X)).backward()
    assert all(w.grad is not None and not w.is_inference() for w in model.parameters())

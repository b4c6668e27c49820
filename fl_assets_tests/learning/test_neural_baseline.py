import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fl_assets.learning.configs import BCEConfig, MLPConfig, OptimizerConfig
from fl_assets.learning.losses import build_objective
from fl_assets.learning.metrics import auroc, log_loss
from fl_assets.learning.models import build_model
from fl_assets.learning.neural_baseline import EPOCHS, neural_network
from fl_assets.learning.training import derive_seed, predict, train_epochs


def patients(n: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 4)).astype(np.float32)
    return X, (rng.random(n) < 1 / (1 + np.exp(2 - 2 * X[:, 0]))).astype(np.float64)


TRAIN, VALIDATION, FRESH = patients(300, 0), patients(150, 1), patients(400, 2)
NOBODY = TRAIN[0][:0], TRAIN[1][:0]


def test_the_kept_epoch_is_the_one_with_the_lowest_validation_loss() -> None:
    baseline = neural_network(*TRAIN, *VALIDATION, 3, prevalence=0.2)

    model = build_model(MLPConfig(), {"all": range(4)}, 0.2, 3)
    losses = []
    for epoch in range(1, EPOCHS + 1):
        train_epochs(
            model,
            torch.from_numpy(TRAIN[0]),
            torch.from_numpy(np.float32(TRAIN[1])),
            objective=build_objective(BCEConfig(), 0.2),
            optimizer=OptimizerConfig(kind="adam", lr=1e-3),
            epochs=1,
            batch_size=32,
            seed=derive_seed(3, "centralised", epoch),
        )
        losses.append(log_loss(VALIDATION[1], predict(model, torch.from_numpy(VALIDATION[0]))))
    assert baseline.params["epochs"] == int(np.argmin(losses)) + 1
    assert log_loss(VALIDATION[1], baseline.scores(VALIDATION[0])) == min(losses)
    assert baseline.params["tuned_on"] == "validation"
    assert baseline.tried == EPOCHS
    assert (auroc(FRESH[1], baseline.scores(FRESH[0])) or 0) > 0.8


def test_without_validation_rows_the_last_epoch_stands_and_says_so() -> None:
    baseline = neural_network(*TRAIN, *NOBODY, 3, prevalence=0.2)

    assert baseline.params["epochs"] == EPOCHS
    assert baseline.params["tuned_on"] == "nothing"
    assert baseline.tried == 1
    assert (auroc(FRESH[1], baseline.scores(FRESH[0])) or 0) > 0.8


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_class_in_validation_is_no_obstacle(label: float) -> None:
    kept = VALIDATION[1] == label
    baseline = neural_network(*TRAIN, VALIDATION[0][kept], VALIDATION[1][kept], 3, prevalence=0.2)
    assert np.isfinite(baseline.scores(FRESH[0])).all()

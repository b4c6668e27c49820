"""The centralised neural baseline: the network of the federated recipes on pooled rows."""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray

from fl_assets.learning.baselines import Baseline
from fl_assets.learning.configs import BCEConfig, MLPConfig, OptimizerConfig
from fl_assets.learning.losses import build_objective
from fl_assets.learning.metrics import log_loss
from fl_assets.learning.models import build_model
from fl_assets.learning.training import derive_seed, predict, train_epochs

Floats = NDArray[np.float64]
EPOCHS = 40
_OPTIMIZER = OptimizerConfig(kind="adam", lr=1e-3)


def neural_network(
    X_train: NDArray[np.float32],
    y_train: Floats,
    X_val: NDArray[np.float32],
    y_val: Floats,
    seed: int,
    *,
    prevalence: float,
) -> Baseline:
    """Train a multilayer perceptron and keep the epoch with the lowest validation loss.

    Early stopping is the only thing tuned; without validation rows the last epoch stands.

    Args:
        X_train, X_val: features [n, k] and [m, k].
        y_train, y_val: 0/1, [n] and [m].
        seed: of first weights and shuffles.
        prevalence: public label rate, the start of the bias.

    Raises:
        TrainingDivergedError: see :func:`fl_assets.learning.training.train_epochs`.
    """
    X, y = torch.from_numpy(X_train), torch.from_numpy(np.float32(y_train))
    model = build_model(MLPConfig(), {"all": range(X.shape[1])}, prevalence, seed)
    objective = build_objective(BCEConfig(), prevalence)
    # Not copied yet: as long as no epoch was judged, the weights are those of the last one.
    best_loss, best_epoch, best = float("inf"), EPOCHS, model.state_dict()
    for epoch in range(1, EPOCHS + 1):
        train_epochs(
            model,
            X,
            y,
            objective=objective,
            optimizer=_OPTIMIZER,
            epochs=1,
            batch_size=32,
            seed=derive_seed(seed, "centralised", epoch),
        )
        if not len(X_val):
            continue
        loss = log_loss(y_val, predict(model, torch.from_numpy(X_val)))
        if loss < best_loss:
            best_loss, best_epoch, best = loss, epoch, copy.deepcopy(model.state_dict())
    model.load_state_dict(best)
    tuned_on = "validation" if len(X_val) else "nothing"
    return Baseline(
        name="neural_network",
        params={"hidden": list(MLPConfig().hidden), "epochs": best_epoch, "tuned_on": tuned_on},
        tried=EPOCHS if len(X_val) else 1,
        predict=lambda rows: predict(model, torch.from_numpy(np.float32(rows))),
    )

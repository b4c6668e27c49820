from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from fl_assets.cohorts.spec import CohortSpec
from fl_assets.learning.configs import EmbeddingConfig
from fl_assets.learning.features import Preprocessor
from fl_assets.site.pretraining import AutoencoderTrainer
from fl_assets.site.training import Features, SiteRows

CONFIG = EmbeddingConfig(encoder=(12, 6))


def rows_of(patients: pd.DataFrame, stroke: CohortSpec, hospital: str = "a") -> SiteRows:
    X = torch.from_numpy(Preprocessor.public(stroke).transform(patients.iloc[:300]))
    parts = (Features(part, torch.zeros(len(part))) for part in (X[:200], X[200:]))
    return SiteRows(hospital, "p1", *parts)


@pytest.fixture(scope="module")
def rows(patients: pd.DataFrame, stroke: CohortSpec) -> SiteRows:
    return rows_of(patients, stroke)


def trainer(rows: SiteRows, **changes: Any) -> AutoencoderTrainer:
    asked: dict[str, Any] = {"seed": 3, "epochs": 2, "batch_size": 32, "lr": 0.003, "noise": 0.0}
    return AutoencoderTrainer(rows, CONFIG, **asked | changes)


def start(rows: SiteRows) -> dict[str, Tensor]:
    return {name: w.clone() for name, w in trainer(rows).model.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(a[name], w) for name, w in b.items())


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_rounds_lower_the_error_on_rows_never_trained_on(rows: SiteRows, noise: float) -> None:
    site, weights = trainer(rows, noise=noise), start(rows)
    updates = []
    for round_ in range(1, 9):
        updates.append(site.train_round(weights, round_))
        weights = updates[-1].weights
    # Answering every row with the columns' means leaves their variance.
    variance = float(rows.validation.X.var(dim=0, correction=0).mean())
    assert updates[-1].validation.loss < 0.8 * variance < updates[0].validation.loss
    assert updates[-1].loss < updates[0].loss
    assert updates[-1].examples == 200


def test_the_validation_error_is_of_the_weights_that_came_in_on_clean_rows(
    rows: SiteRows,
) -> None:
    weights = start(rows)
    found = trainer(rows, noise=0.5).train_round(weights, 1).validation
    x = rows.validation.X.numpy()
    hidden = x
    for layer in ("encoder.0", "encoder.3", "decoder.0", "decoder.2"):
        if layer == "decoder.2":
            hidden = np.maximum(hidden, 0)
        hidden = hidden @ weights[f"{layer}.weight"].numpy().T + weights[f"{layer}.bias"].numpy()
        norm = {"encoder.0": "encoder.1", "encoder.3": "encoder.4"}.get(layer)
        if norm:
            centred = hidden - hidden.mean(axis=1, keepdims=True)
            hidden = centred / np.sqrt(hidden.var(axis=1, keepdims=True) + 1e-5)
            hidden = np.maximum(hidden, 0)
    assert found.loss == pytest.approx(float(((hidden - x) ** 2).mean()), rel=1e-4)
    assert (found.examples, found.auroc, found.threshold) == (100, None, None)


def test_a_round_derives_from_seed_hospital_and_round(
    rows: SiteRows, patients: pd.DataFrame, stroke: CohortSpec
) -> None:
    weights = start(rows)

    def round_(site: SiteRows = rows, number: int = 1, **changes: Any) -> dict[str, Tensor]:
        torch.rand(3)  # whatever else drew from the global generator
        return trainer(site, **{"noise": 0.1} | changes).train_round(weights, number).weights

    assert same(round_(), round_())
    others = [
        round_(number=2),
        round_(seed=4),
        round_(rows_of(patients, stroke, "b")),
        round_(noise=0.0),
        round_(noise=0.2),
    ]
    assert not any(same(round_(), other) for other in others)


def test_no_validation_rows(rows: SiteRows) -> None:
    nothing = Features(rows.validation.X[:0], rows.validation.y[:0])
    found = trainer(SiteRows("a", "p1", rows.train, nothing)).train_round(start(rows), 1)
    assert (found.validation.examples, found.validation.loss) == (0, None)

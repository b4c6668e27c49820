"""A model as data: it scores what it scored before, and nothing else is taken for one."""

from __future__ import annotations

import base64
import io

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from fl_assets.cohorts.spec import CohortSpec
from fl_assets.learning.configs import MLPConfig
from fl_assets.learning.features import Preprocessor
from fl_assets.learning.models import model_for
from fl_assets.learning.training import predict
from fl_assets.site import model_data
from fl_assets.site.model_data import (
    ModelData,
    OtherCohortError,
    UnfitWeightsError,
    UnreadableWeightsError,
    WeightsTooLargeError,
)

CONFIG = MLPConfig(hidden=(4,))


@pytest.fixture
def model(stroke: CohortSpec) -> ModelData:
    preprocessor = Preprocessor.public(stroke)
    state = model_for(CONFIG, preprocessor, seed=3).state_dict()
    weights = {name: w.numpy() for name, w in state.items()}
    return ModelData(config=CONFIG, preprocessor=preprocessor, weights=weights, threshold=0.25)


def text_of(**arrays: np.ndarray) -> str:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return base64.b64encode(buffer.getvalue()).decode()


def test_it_scores_the_same_after_a_journey(
    model: ModelData, stroke: CohortSpec, patients: pd.DataFrame
) -> None:
    arrived = ModelData.model_validate_json(model.model_dump_json())
    X = model.preprocessor.transform(patients)
    network = model_for(CONFIG, model.preprocessor, seed=3)
    np.testing.assert_array_equal(
        arrived.of_cohort(stroke).scorer(X), predict(network, torch.from_numpy(X))
    )
    assert arrived.of_cohort(stroke).threshold == 0.25


def test_in_one_process_weights_are_handed_over_as_they_are(model: ModelData) -> None:
    again = ModelData(**dict(model))
    assert all(again.weights[name] is w for name, w in model.weights.items())


def test_a_model_for_another_cohort(model: ModelData, stroke: CohortSpec) -> None:
    # Whose patients are subgroups is for the hospital to say.
    other = stroke.model_copy(update={"subgroups": ()})
    with pytest.raises(OtherCohortError, match=f"{other.version}: bring the cohort file"):
        model.of_cohort(other)


def test_weights_of_another_network(model: ModelData) -> None:
    lost = dict(model.weights)
    del lost["0.bias"]
    for weights in (lost, {**model.weights, "0.bias": np.zeros(9, np.float32)}):
        with pytest.raises(UnfitWeightsError, match=r"^1 of the model's weights"):
            _ = model.model_copy(update={"weights": weights}).trained


@pytest.mark.parametrize("text", ["not base64!", base64.b64encode(b"no archive").decode()])
def test_something_else_than_weights(model: ModelData, text: str) -> None:
    with pytest.raises(UnreadableWeightsError):
        ModelData(**{**dict(model), "weights": text})


def test_a_pickle_is_not_opened(model: ModelData) -> None:
    with pytest.raises(UnreadableWeightsError):
        ModelData(**{**dict(model), "weights": text_of(a=np.array([{}], dtype=object))})


def test_too_large_to_take_in_or_to_unpack(
    model: ModelData, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb = text_of(a=np.zeros(10_000, np.float32))
    assert len(bomb) < 1000
    monkeypatch.setattr(model_data, "LARGEST", 1000)
    with pytest.raises(WeightsTooLargeError, match=r"have 40,128 bytes, .* takes in 1,000"):
        ModelData(**{**dict(model), "weights": bomb})
    with pytest.raises(WeightsTooLargeError):
        ModelData(**{**dict(model), "weights": "A" * 2000})


def test_an_unknown_field(model: ModelData) -> None:
    with pytest.raises(ValidationError, match="seed"):
        ModelData(**dict(model), seed=1)

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from fl_assets.cohorts.spec import CohortSpec
from fl_assets.learning.configs import LogisticRegressionConfig
from fl_assets.learning.features import Preprocessor
from fl_assets.learning.metrics import threshold_at_specificity
from fl_assets.learning.models import model_for
from fl_assets.learning.training import predict
from fl_assets.site.client_state import ClientState, Phase
from fl_assets.site.partitions import load_manifest, load_part
from fl_assets.site.personal import (
    KeptLayers,
    OtherModelError,
    load_own_model,
    load_personal,
    save_personal,
)
from fl_assets.storage import FolderStore
from fl_assets_tests.site.conftest import put_parts

FIRST = {"body": torch.tensor([1.0, 2.0]), "norm": torch.tensor([3.0])}
SHARED = {"body": torch.tensor([5.0, 6.0])}


@pytest.fixture
def state(store: FolderStore) -> ClientState:
    return ClientState(store, "run-1", rounds=2)


@pytest.fixture
def layers(state: ClientState) -> KeptLayers:
    return KeptLayers(Phase.TRAINING, {"norm"}, FIRST, state)


def values(weights: dict[str, Tensor]) -> dict[str, list[float]]:
    return {name: w.tolist() for name, w in weights.items()}


def test_kept_layers_neither_leave_nor_arrive(layers: KeptLayers) -> None:
    assert values(layers.join(SHARED, 1)) == {"body": [5, 6], "norm": [3]}
    trained = {"body": torch.tensor([7.0, 8.0]), "norm": torch.tensor([9.0])}
    assert values(layers.split(trained, 1)) == {"body": [7, 8]}
    assert values(layers.join(SHARED, 2)) == {"body": [5, 6], "norm": [9]}
    # The global model has the first values, for nobody else knows others.
    assert values(layers.complete(SHARED)) == {"body": [5, 6], "norm": [3]}


def test_training_the_model_does_not_move_its_first_values(state: ClientState) -> None:
    model = torch.nn.LayerNorm(2)
    layers = KeptLayers(Phase.TRAINING, {"bias"}, model.state_dict(), state)
    with torch.no_grad():
        model.bias.fill_(4.0)
    assert values(layers.join({"weight": torch.ones(2)}, 1))["bias"] == [0, 0]


def test_with_nothing_to_keep_nothing_is_stored(state: ClientState, store: FolderStore) -> None:
    layers = KeptLayers(Phase.TRAINING, (), FIRST, state)
    assert values(layers.join(FIRST, 1)) == values(FIRST)
    assert values(layers.split(FIRST, 1)) == values(FIRST)
    assert store.list() == []


def test_training_begins_with_the_pretrained_layers_that_stayed(
    layers: KeptLayers, state: ClientState
) -> None:
    first = {"body": torch.zeros(2), "norm": torch.zeros(1), "decoder": torch.zeros(1)}
    before = KeptLayers(Phase.PRETRAINING, {"norm", "decoder"}, first, state)
    before.split({name: w + 4 for name, w in first.items()}, 10)
    assert values(layers.join(SHARED, 1)) == {"body": [5, 6], "norm": [4]}


@pytest.mark.parametrize(
    "sent", [{}, {"other": torch.zeros(1)}, {**SHARED, "norm": torch.zeros(1)}], ids=str
)
def test_a_server_that_sends_something_else_is_refused(
    layers: KeptLayers, sent: dict[str, Tensor]
) -> None:
    """Also one that would overwrite the layers that are the hospital's."""
    for use in (lambda: layers.join(sent, 1), lambda: layers.complete(sent)):
        with pytest.raises(OtherModelError, match=r"another model, \d names differ: bring"):
            use()


def test_an_own_model_scores_as_the_stored_weights_do(
    dealt: FolderStore, stroke: CohortSpec
) -> None:
    preprocessor, config = Preprocessor.public(stroke), LogisticRegressionConfig()
    assert load_own_model(dealt, "run-1", config, preprocessor) is None
    weights = {
        "0.weight": torch.linspace(-1, 1, len(preprocessor.feature_names))[None],
        "0.bias": torch.tensor([-2.0]),
    }
    save_personal(dealt, "run-1", weights)
    own = load_own_model(dealt, "run-1", config, preprocessor)
    assert own is not None

    frame = load_part(dealt, load_manifest(dealt), "validation")
    X = preprocessor.transform(frame)
    scores = 1 / (1 + np.exp(2 - X.astype(float) @ weights["0.weight"][0].numpy().astype(float)))
    np.testing.assert_allclose(own.scorer(X), scores, rtol=1e-4)
    expected = threshold_at_specificity(frame["stroke"].to_numpy(), scores, 0.8)
    assert own.threshold == pytest.approx(expected, rel=1e-4)
    assert load_own_model(dealt, "run-2", config, preprocessor) is None


def test_an_own_model_without_validation_rows_has_no_threshold(
    store: FolderStore, stroke: CohortSpec, patients: pd.DataFrame
) -> None:
    preprocessor, config = Preprocessor.public(stroke), LogisticRegressionConfig()
    put_parts(store, stroke, train=patients.iloc[:5])
    model = model_for(config, preprocessor, seed=1)
    save_personal(store, "run-1", model.state_dict())
    own = load_own_model(store, "run-1", config, preprocessor)
    assert own is not None
    assert own.threshold is None
    X = np.zeros((2, len(preprocessor.feature_names)), dtype=np.float32)
    np.testing.assert_array_equal(own.scorer(X), predict(model, torch.from_numpy(X)))
    assert load_personal(store, "run-2") is None

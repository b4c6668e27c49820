import json
import urllib.error
import urllib.request
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.model import PythonModelContext

from fl_assets.cohorts.spec import CohortSpec
from fl_assets.cohorts.synthetic import generate
from fl_assets.learning.configs import (
    AttentionFusionConfig,
    EarlyFusionConfig,
    EmbeddingConfig,
    LateFusionConfig,
    LogisticRegressionConfig,
    ModelConfig,
)
from fl_assets.learning.features import Preprocessor
from fl_assets.learning.models import model_for
from fl_assets.learning.weights import weights_to_bytes
from fl_assets.tracking.models import LoadedModel
from fl_assets.tracking.served_model import (
    ABOVE_THRESHOLD,
    PREPROCESSOR,
    PROBABILITY,
    SETUP,
    WEIGHTS,
    ModelSetup,
    RiskModel,
)
from fl_assets_tests.tracking.conftest import Logged
from fl_assets_tests.tracking.servers import free_port, serving


@pytest.fixture(scope="module")
def model(logged: Logged) -> LoadedModel:
    return logged.registry.load("champion")


@pytest.fixture(scope="module")
def rows(cohort: CohortSpec) -> pd.DataFrame:
    """Raw rows as pandas reads a file: whole ages, a bmi with gaps, and id and label besides."""
    text = generate(cohort, rows=80, seed=5).to_csv(index=False)
    frame = pd.read_csv(StringIO(text), keep_default_na=False, na_values=["N/A"])
    frame = frame[frame["age"] >= 2].reset_index(drop=True)
    frame.loc[[0, 1], "bmi"] = np.nan
    return frame.astype({"age": "int64"})[cohort.column_names]


def by_hand(logged: Logged, rows: pd.DataFrame) -> Any:
    """Two layers, in numpy and double precision."""
    w = {name: value.astype(np.float64) for name, value in logged.weights.items()}
    hidden = logged.preprocessor.transform(rows) @ w["0.weight"].T + w["0.bias"]
    logits = np.maximum(hidden, 0) @ w["2.weight"].T + w["2.bias"]
    return 1 / (1 + np.exp(-logits[:, 0]))


def test_scores_are_preprocessor_and_network_by_hand(
    model: LoadedModel, logged: Logged, rows: pd.DataFrame
) -> None:
    found = model.predict(rows)

    expected = by_hand(logged, rows)
    np.testing.assert_allclose(found[PROBABILITY], expected, rtol=1e-5)
    assert found[ABOVE_THRESHOLD].tolist() == (expected >= logged.threshold).tolist()
    assert 0 < found[ABOVE_THRESHOLD].sum() < len(rows)
    assert list(found) == [PROBABILITY, ABOVE_THRESHOLD]


def whole(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(avg_glucose_level=frame["avg_glucose_level"].round().astype("int64"))


SAME: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "ints": lambda f: f.astype({"age": "int64", "hypertension": "int32"}),
    "floats": lambda f: f.astype({"age": float, "hypertension": float, "heart_disease": float}),
    "bools": lambda f: f.astype({"hypertension": bool, "heart_disease": bool}),
    "None for NaN": lambda f: f.assign(bmi=f["bmi"].astype(object).where(f["bmi"].notna(), None)),
    "nullable": lambda f: f.astype({"age": "Int64", "bmi": "Float64"}),
    "another order": lambda f: f[f.columns[::-1]],
    "another index": lambda f: f.set_index(np.arange(len(f)) + 7),
}


@pytest.mark.parametrize("kind", SAME)
def test_the_form_of_the_rows_does_not_change_their_scores(
    model: LoadedModel, rows: pd.DataFrame, kind: str
) -> None:
    plain = whole(rows)
    found = model.predict(SAME[kind](plain))
    np.testing.assert_array_equal(found[PROBABILITY], model.predict(plain)[PROBABILITY])


def test_an_absent_bmi_column_is_a_bmi_that_nobody_has(
    model: LoadedModel, rows: pd.DataFrame
) -> None:
    absent = model.predict(rows.drop(columns="bmi"))[PROBABILITY]
    np.testing.assert_array_equal(absent, model.predict(rows.assign(bmi=np.nan))[PROBABILITY])
    np.testing.assert_array_equal(absent, model.predict(rows.assign(bmi=None))[PROBABILITY])


def test_a_single_row_scores_as_among_others(model: LoadedModel, rows: pd.DataFrame) -> None:
    alone = [model.predict(rows[i : i + 1])[PROBABILITY].iloc[0] for i in range(5)]
    np.testing.assert_allclose(alone, model.predict(rows)[PROBABILITY][:5], rtol=1e-6)
    assert len(model.predict(rows[:0])) == 0


@pytest.mark.parametrize("column", ["age", "gender", "hypertension"])
def test_a_missing_column_is_named(model: LoadedModel, rows: pd.DataFrame, column: str) -> None:
    with pytest.raises(MlflowException, match=rf"missing inputs \['{column}'\]"):
        model.predict(rows.drop(columns=column))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("gender", "canary-4711", "'gender' has an unknown category in 1 rows"),
        ("age", "canary-4711", "'age' is not a number in 1 rows"),
        ("age", None, "'age' is empty in 1 rows"),
        ("hypertension", 4711, "'hypertension' is neither 0 nor 1 in 1 rows"),
        ("hypertension", None, "'hypertension' is empty in 1 rows"),
    ],
)
def test_a_bad_value_is_refused_and_not_repeated(
    model: LoadedModel, rows: pd.DataFrame, column: str, value: object, message: str
) -> None:
    bad = rows.astype({column: object})
    bad.loc[2, column] = value
    with pytest.raises(MlflowException, match=message) as caught:
        model.predict(bad)
    assert "4711" not in str(caught.value)
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"


@pytest.mark.parametrize(
    "config",
    [
        LogisticRegressionConfig(),
        EmbeddingConfig(),
        EarlyFusionConfig(),
        LateFusionConfig(),
        AttentionFusionConfig(norm="layer"),
    ],
    ids=lambda config: config.kind,
)
def test_every_kind_of_model_comes_back_from_its_artifacts(
    cohort: CohortSpec, rows: pd.DataFrame, tmp_path: Path, config: ModelConfig
) -> None:
    preprocessor = Preprocessor.public(cohort)
    trained = model_for(config, preprocessor, seed=3)
    # No longer the first weights of any seed.
    weights = {name: weight.numpy() + 0.01 for name, weight in trained.state_dict().items()}
    trained.load_state_dict({name: torch.from_numpy(w) for name, w in weights.items()})
    files = {
        WEIGHTS: weights_to_bytes(weights),
        PREPROCESSOR: preprocessor.model_dump_json().encode(),
        SETUP: ModelSetup(model=config, threshold=0.1).model_dump_json().encode(),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    context = PythonModelContext({name: str(tmp_path / name) for name in files}, {})

    served = RiskModel()
    served.load_context(context)

    expected = torch.sigmoid(trained(torch.from_numpy(preprocessor.transform(rows))))[:, 0]
    found = served.predict(context, rows)[PROBABILITY]
    np.testing.assert_allclose(found, expected.detach().numpy(), rtol=1e-5)
    assert found.nunique() > 1


@pytest.mark.services
def test_mlflow_serves_it(logged: Logged, rows: pd.DataFrame, tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"

    def ask(frame: pd.DataFrame) -> tuple[int, Any]:
        body = json.dumps({"dataframe_split": json.loads(frame.to_json(orient="split"))}).encode()
        request = urllib.request.Request(
            f"{url}/invocations", body, {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, json.load(response)["predictions"]
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    command = ["models", "serve", "--model-uri", str(logged.folder), "--env-manager", "local"]
    address = ["--host", "127.0.0.1", "--port", str(port)]
    with serving([*command, *address], f"{url}/ping", tmp_path / "serve.log"):
        status, found = ask(rows)
        assert status == 200
        np.testing.assert_allclose(
            [row[PROBABILITY] for row in found], by_hand(logged, rows), rtol=1e-5
        )

        # The first row's bmi is null.
        assert np.isnan(rows["bmi"][0])
        status, found = ask(rows[:1])
        assert status == 200
        assert found[0][PROBABILITY] == pytest.approx(by_hand(logged, rows[:1])[0], rel=1e-5)

        status, message = ask(rows.drop(columns="age"))
        assert status == 400
        assert "Model is missing inputs ['age']" in message

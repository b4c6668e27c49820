"""The model as MLflow serves it: raw cohort columns in, risk out.

MLflow runs this file to load a model ("models from code"), so a model is never unpickled.
"""

from __future__ import annotations

from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from fl_assets.config import StrictModel
from fl_assets.learning.configs import ModelConfig

PROBABILITY = "probability"
ABOVE_THRESHOLD = "above_threshold"
WEIGHTS = "weights"
PREPROCESSOR = "preprocessor"
SETUP = "setup"


class ModelSetup(StrictModel):
    """What a served model needs besides weights and preprocessor.

    Attributes:
        model: which network the weights are for.
        threshold: probability from which a patient counts as at risk.
    """

    model: ModelConfig
    threshold: float


class RiskModel(PythonModel):
    """Preprocessor and network in one; the output is a probability and a flag per row."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the artefacts."""
        from pathlib import Path

        import torch

        from fl_assets.learning.features import Preprocessor
        from fl_assets.learning.models import model_for
        from fl_assets.learning.weights import weights_from_bytes

        files = {name: Path(path) for name, path in context.artifacts.items()}
        self._preprocessor = Preprocessor.model_validate_json(files[PREPROCESSOR].read_bytes())
        self._setup = ModelSetup.model_validate_json(files[SETUP].read_bytes())
        weights = weights_from_bytes(files[WEIGHTS].read_bytes())
        self._model = model_for(self._setup.model, self._preprocessor, seed=0)
        self._model.load_state_dict({k: torch.from_numpy(v) for k, v in weights.items()})

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002  (MLflow's signature)
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,  # noqa: ARG002
    ) -> pd.DataFrame:
        """Score rows of raw columns.

        Raises:
            MlflowException: a row does not fit the cohort; names columns and counts, no value.
        """
        import torch

        from fl_assets.learning.features import FeatureError
        from fl_assets.learning.training import predict

        try:
            features = self._preprocessor.transform(_complete(model_input, self._preprocessor))
        except FeatureError as error:
            raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from None
        probability = predict(self._model, torch.from_numpy(features))
        return pd.DataFrame(
            {PROBABILITY: probability, ABOVE_THRESHOLD: probability >= self._setup.threshold}
        )


def _complete(frame: pd.DataFrame, preprocessor: Any) -> pd.DataFrame:
    """A column that may be empty may also be left out of a request."""
    absent = [
        column.name
        for column in preprocessor.cohort.columns
        if column.nullable and column.name not in frame.columns
    ]
    return frame.assign(**dict.fromkeys(absent))


mlflow.models.set_model(RiskModel())

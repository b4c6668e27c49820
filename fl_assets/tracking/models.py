"""Logging a model to MLflow and its life in the registry."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema

import fl_assets
from fl_assets.cohorts.spec import CategoryColumn, CohortSpec, NumberColumn
from fl_assets.errors import FlAssetsError
from fl_assets.federation.job import Weights, weights_to_bytes
from fl_assets.learning.configs import LogisticRegressionConfig, MLPConfig
from fl_assets.learning.features import Preprocessor
from fl_assets.tracking import served_model
from fl_assets.tracking.runs import Tracking, use

CANDIDATE = "candidate"
CHAMPION = "champion"
_REQUIREMENTS = ("mlflow", "numpy", "pandas", "pydantic", "pyyaml", "torch")


class NoChampionError(FlAssetsError):
    """The registry holds no champion yet."""

    def __init__(self, name: str) -> None:
        super().__init__(f"model {name!r} has no champion yet: run `fla demo` or promote one")


def log_model(
    tracking: Tracking,
    run_id: str,
    weights: Weights,
    config: LogisticRegressionConfig | MLPConfig,
    preprocessor: Preprocessor,
    threshold: float,
) -> str:
    """Log a model that takes raw columns, with signature and input example; return its URI."""
    with tempfile.TemporaryDirectory() as scratch, use(tracking, run_id):
        folder = Path(scratch)
        setup = served_model.ModelSetup(model=config, threshold=threshold)
        files = {
            served_model.WEIGHTS: ("weights.npz", weights_to_bytes(weights)),
            served_model.PREPROCESSOR: ("preprocessor.json", _json_bytes(preprocessor)),
            served_model.SETUP: ("setup.json", _json_bytes(setup)),
        }
        for name, data in files.values():
            (folder / name).write_bytes(data)
        logged = mlflow.pyfunc.log_model(
            name="model",
            python_model=served_model.__file__,
            artifacts={key: str(folder / name) for key, (name, _) in files.items()},
            code_paths=[str(Path(fl_assets.__file__).parent)],
            signature=signature(preprocessor.cohort),
            input_example=input_example(preprocessor.cohort),
            # Named, since MLflow would otherwise import the model in a new process to guess them.
            pip_requirements=[f"{name}=={metadata.version(name)}" for name in _REQUIREMENTS],
        )
    return str(logged.model_uri)


def _json_bytes(model: Any) -> bytes:
    return str(model.model_dump_json(indent=2)).encode()


def signature(spec: CohortSpec) -> ModelSignature:
    """Return the signature over raw columns; one that may be missing is optional."""
    columns = []
    for column in spec.columns:
        if isinstance(column, CategoryColumn):
            kind = DataType.string
        elif isinstance(column, NumberColumn) or column.nullable:
            kind = DataType.double
        else:
            kind = DataType.long
        columns.append(ColSpec(kind, column.name, required=not column.nullable))
    outputs = [
        ColSpec(DataType.double, served_model.PROBABILITY),
        ColSpec(DataType.boolean, served_model.ABOVE_THRESHOLD),
    ]
    return ModelSignature(inputs=Schema(columns), outputs=Schema(outputs))


def input_example(spec: CohortSpec) -> pd.DataFrame:
    """Return one made-up row: public centres, reference categories, no flag set."""
    row: dict[str, Any] = {}
    for column in spec.columns:
        if isinstance(column, NumberColumn):
            row[column.name] = float(column.public.center)
        elif isinstance(column, CategoryColumn):
            row[column.name] = column.reference
        else:
            row[column.name] = 0
    return pd.DataFrame([row])


class Registry:
    """The registered model of a consortium: versions and aliases.

    Args:
        tracking: where the registry is.
        name: of the registered model.
    """

    def __init__(self, tracking: Tracking, name: str) -> None:
        self._client = tracking.client
        self.tracking = tracking
        self.name = name

    def register(self, run_id: str, model_uri: str, tags: Mapping[str, str]) -> str:
        """Register a logged model as a new version and return the version."""
        try:
            self._client.create_registered_model(self.name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        created = self._client.create_model_version(
            self.name, source=model_uri, run_id=run_id, tags=dict(tags)
        )
        return str(created.version)

    def has(self, version: str, run_id: str) -> bool:
        """Tell whether a version is there and came from that MLflow run."""
        try:
            found = self._client.get_model_version(self.name, version)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise
        return str(found.run_id) == run_id

    def describe(self, version: str, run_id: str, card: str) -> None:
        """Put a model card beside a version: its description, and a file of its run."""
        self._client.log_text(run_id, card, "model_card.md")
        self._client.update_model_version(self.name, version, description=card)

    def set_alias(self, alias: str, version: str) -> None:
        """Let an alias point to a version, and to no other."""
        self._client.set_registered_model_alias(self.name, alias, version)

    def alias(self, alias: str) -> ModelVersion | None:
        """Return the version an alias points to, None if it points nowhere."""
        try:
            return self._client.get_model_version_by_alias(self.name, alias)
        except MlflowException as error:
            if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
                return None
            raise

    def load(self, version_or_alias: str) -> mlflow.pyfunc.PyFuncModel:
        """Load a version by number or alias, with ``predict`` from raw columns.

        Raises:
            NoChampionError: the champion was asked for and there is none.
        """
        separator = "/" if version_or_alias.isdigit() else "@"
        if separator == "@" and self.alias(version_or_alias) is None:
            raise NoChampionError(self.name)
        mlflow.set_tracking_uri(self.tracking.uri)
        mlflow.set_registry_uri(self.tracking.uri)
        return mlflow.pyfunc.load_model(f"models:/{self.name}{separator}{version_or_alias}")

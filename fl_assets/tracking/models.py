"""Logging a model to MLflow and its life in the registry."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol, cast

import mlflow
import pandas as pd
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import AnyType

import fl_assets
from fl_assets.cohorts.spec import CategoryColumn, CohortSpec, NumberColumn
from fl_assets.errors import FlAssetsError
from fl_assets.learning.configs import ModelConfig
from fl_assets.learning.features import Preprocessor
from fl_assets.learning.weights import Weights, weights_to_bytes
from fl_assets.tracking import served_model
from fl_assets.tracking.runs import Tracking, reaching, use

CANDIDATE = "candidate"
CHAMPION = "champion"
_REQUIREMENTS = ("mlflow", "numpy", "pandas", "pydantic", "pyyaml", "torch")


class LoadedModel(Protocol):
    """What callers need of a loaded model."""

    def predict(self, data: pd.DataFrame) -> pd.DataFrame:
        """Score rows of raw columns, see :class:`fl_assets.tracking.served_model.RiskModel`."""


class NoChampionError(FlAssetsError):
    """The registry holds no champion.

    Args:
        name: of the model.
        lost: why there is none any more; None where there never was one.
    """

    def __init__(self, name: str, lost: str | None = None) -> None:
        why = "yet: run `fla demo` or promote one" if lost is None else f"any more: {lost}"
        super().__init__(f"model {name!r} has no champion {why}")


def log_model(
    tracking: Tracking,
    run_id: str,
    weights: Weights,
    config: ModelConfig,
    preprocessor: Preprocessor,
    threshold: float,
) -> str:
    """Log a model that takes raw columns, with signature and input example.

    Args:
        tracking: where.
        run_id: MLflow's, open.
        weights: by parameter name.
        config: the network that they are for.
        preprocessor: from raw columns to its features.
        threshold: probability from which a patient counts as at risk.

    Returns:
        The model's URI.

    Raises:
        TrackingError: MLflow failed.
    """
    with (
        tempfile.TemporaryDirectory() as scratch,
        reaching(tracking.uri),
        use(tracking, run_id),
        _nothing_compiled(),
    ):
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
            pip_requirements=[f"{name}=={_release(name)}" for name in _REQUIREMENTS],
        )
    return str(logged.model_uri)


@contextmanager
def _nothing_compiled() -> Iterator[None]:
    """Have Python leave no compiled file beside the code that it runs.

    MLflow runs a model's code in the folder that it stores. What is compiled there would be part of
    the model, and names this machine's folders.
    """
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


def _release(package: str) -> str:
    """Return the installed version without its build (``+cpu``), which no index may have."""
    return metadata.version(package).partition("+")[0]


def _json_bytes(model: Any) -> bytes:
    return str(model.model_dump_json(indent=2)).encode()


def signature(spec: CohortSpec) -> ModelSignature:
    """Return the signature over raw columns; one that may be missing is optional.

    Numbers and flags are of MLflow's ``any``: its ``double`` refuses whole numbers and its ``long``
    a column with a gap, and both put the rows into the message. The preprocessor checks them.
    """
    anything = AnyType()  # type: ignore[no-untyped-call]
    inputs = Schema(
        [
            ColSpec(
                DataType.string if isinstance(column, CategoryColumn) else anything,
                column.name,
                required=not column.nullable,
            )
            for column in spec.columns
        ]
    )
    outputs = Schema(
        [
            ColSpec(DataType.double, served_model.PROBABILITY),
            ColSpec(DataType.boolean, served_model.ABOVE_THRESHOLD),
        ]
    )
    return ModelSignature(inputs=inputs, outputs=outputs)


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

    Every method raises TrackingError where MLflow fails.

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
        with reaching(self.tracking.uri):
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
        with reaching(self.tracking.uri):
            try:
                found = self._client.get_model_version(self.name, version)
            except MlflowException as error:
                if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                    return False
                raise
        return str(found.run_id) == run_id

    def describe(self, version: str, run_id: str, card: str) -> None:
        """Put a model card beside a version: its description, and a file of its run."""
        with reaching(self.tracking.uri):
            self._client.log_text(run_id, card, "model_card.md")
            self._client.update_model_version(self.name, version, description=card)

    def set_alias(self, alias: str, version: str) -> None:
        """Let an alias point to a version, and to no other."""
        with reaching(self.tracking.uri):
            self._client.set_registered_model_alias(self.name, alias, version)

    def alias(self, alias: str) -> ModelVersion | None:
        """Return the version an alias points to, None if it points nowhere."""
        with reaching(self.tracking.uri):
            try:
                return self._client.get_model_version_by_alias(self.name, alias)
            except MlflowException as error:
                if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
                    return None
                raise

    def find(self, version_or_alias: str) -> ModelVersion | None:
        """Return a version by number or alias, None if there is none."""
        if not version_or_alias.isdigit():
            return self.alias(version_or_alias)
        return next((v for v in self.versions() if str(v.version) == version_or_alias), None)

    def versions(self) -> list[ModelVersion]:
        """Return every version, oldest first; none where no model was registered yet."""
        with reaching(self.tracking.uri):
            found = self._client.search_model_versions(f"name='{self.name}'")
        return sorted(found, key=lambda version: int(version.version))

    def aliases(self) -> dict[str, str]:
        """Return the version behind each alias; none where no model was registered yet."""
        with reaching(self.tracking.uri):
            try:
                found = self._client.get_registered_model(self.name).aliases
            except MlflowException as error:
                if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                    return {}
                raise
        return {str(alias): str(version) for alias, version in found.items()}

    def remove_alias(self, alias: str) -> None:
        """Let an alias point nowhere."""
        with reaching(self.tracking.uri):
            self._client.delete_registered_model_alias(self.name, alias)

    def tag(self, version: str, key: str, value: str | None) -> None:
        """Tag a version; None takes the tag away."""
        with reaching(self.tracking.uri):
            if value is None:
                self._client.delete_model_version_tag(self.name, version, key)
            else:
                self._client.set_model_version_tag(self.name, version, key, value)

    def load(self, version_or_alias: str) -> LoadedModel:
        """Load a version by number or alias.

        Raises:
            NoChampionError: the champion was asked for and there is none.
            MlflowException: there is no such version or other alias.
            TrackingError: MLflow could not be asked for the champion.
        """
        if version_or_alias == CHAMPION and self.alias(CHAMPION) is None:
            raise NoChampionError(self.name)
        separator = "/" if version_or_alias.isdigit() else "@"
        mlflow.set_tracking_uri(self.tracking.uri)
        mlflow.set_registry_uri(self.tracking.uri)
        uri = f"models:/{self.name}{separator}{version_or_alias}"
        with _nothing_compiled():
            return cast(LoadedModel, mlflow.pyfunc.load_model(uri))

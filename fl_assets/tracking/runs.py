"""MLflow runs, with explicit run ids instead of MLflow's process-wide active run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

# Read by MLflow at every request. A tracking server that is down must not hold a training up for
# the minutes that MLflow's own defaults would take.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "15")

import mlflow
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.time import get_current_time_millis

from fl_assets.errors import FlAssetsError

RUN_TAG = "fla.run"
_SQLITE = "sqlite:///"


class TrackingError(FlAssetsError):
    """MLflow could not be reached or refused."""

    def __init__(self, uri: str, error: Exception) -> None:
        super().__init__(
            f"MLflow at {uri} failed: {error}. Nothing trained is lost: bring MLflow back and "
            "materialise the asset again"
        )


class Tracking:
    """One MLflow experiment.

    Args:
        uri: tracking URI; also the registry's.
        experiment: created if it is not there; with a SQLite URI its artefacts go to a folder
            ``mlartifacts`` beside the database, otherwise where the server says.
    """

    def __init__(self, uri: str, experiment: str) -> None:
        self.uri = uri
        self.client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        self._experiment = experiment

    def experiment_id(self) -> str:
        """Return the experiment's id, creating it at first use.

        Raises:
            TrackingError: MLflow failed.
        """
        artifacts = None
        if self.uri.startswith(_SQLITE):
            folder = Path(self.uri.removeprefix(_SQLITE)).resolve().parent / "mlartifacts"
            folder.mkdir(parents=True, exist_ok=True)
            artifacts = folder.as_uri()
        try:
            found = self.client.get_experiment_by_name(self._experiment)
            if found is not None:
                return str(found.experiment_id)
            return self.client.create_experiment(self._experiment, artifact_location=artifacts)
        except MlflowException as error:
            raise TrackingError(self.uri, error) from error

    @contextmanager
    def run(self, run: str, tags: Mapping[str, str]) -> Iterator[str]:
        """Open an MLflow run for one of ours; it ends FINISHED or FAILED with the block.

        Yields:
            The MLflow run id.

        Raises:
            TrackingError: MLflow failed to open it.
        """
        experiment = self.experiment_id()
        try:
            opened = self.client.create_run(experiment, run_name=run, tags={RUN_TAG: run, **tags})
        except MlflowException as error:
            raise TrackingError(self.uri, error) from error
        run_id = str(opened.info.run_id)
        status = "FAILED"
        try:
            yield run_id
            status = "FINISHED"
        finally:
            self.client.set_terminated(run_id, status)

    def log(
        self,
        run_id: str,
        params: Mapping[str, object] | None = None,
        metrics: Mapping[str, float | None] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Log params, tags and final metrics; a metric that is None is left out."""
        now = get_current_time_millis()
        self.client.log_batch(
            run_id,
            metrics=[
                Metric(name, value, now, 0)
                for name, value in (metrics or {}).items()
                if value is not None
            ],
            params=[Param(name, str(value)) for name, value in (params or {}).items()],
            tags=[RunTag(name, value) for name, value in (tags or {}).items()],
        )

    def log_dataset(self, run_id: str, name: str, digest: str, rows: int, source: str) -> None:
        """Log a data set that the run used: its version and row count, never a row."""
        from mlflow.data.http_dataset_source import HTTPDatasetSource
        from mlflow.data.meta_dataset import MetaDataset
        from mlflow.entities import DatasetInput, InputTag

        dataset = MetaDataset(HTTPDatasetSource(source), name=name, digest=digest)
        entity = dataset._to_mlflow_entity()
        self.client.log_inputs(
            run_id,
            [
                DatasetInput(
                    entity,
                    [InputTag("mlflow.data.context", "training"), InputTag("rows", str(rows))],
                )
            ],
        )


def use(tracking: Tracking, run_id: str) -> mlflow.ActiveRun:
    """Make an open run the active one for MLflow's fluent API, which logging a model needs."""
    mlflow.set_tracking_uri(tracking.uri)
    mlflow.set_registry_uri(tracking.uri)
    return mlflow.start_run(run_id=run_id, log_system_metrics=False)

"""MLflow runs, with explicit run ids instead of MLflow's process-wide active run."""

from __future__ import annotations

import json
import logging
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import mlflow
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from fl_assets.errors import FlAssetsError

RUN_TAG = "fla.run"
_SQLITE = "sqlite:///"

log = logging.getLogger(__name__)


class TrackingError(FlAssetsError):
    """MLflow could not be reached or refused."""

    def __init__(self, uri: str, error: Exception) -> None:
        # A database's URI may hold a password, and its driver's error may quote the URI.
        shown, why = (re.sub(r"//[^/@]*@", "//", text) for text in (uri, str(error)))
        super().__init__(
            f"MLflow at {shown} failed: {why}. Nothing trained is lost: bring MLflow back and "
            "materialise the asset again"
        )


@contextmanager
def reaching(uri: str) -> Iterator[None]:
    """Turn whatever MLflow's client raises in the block into a TrackingError."""
    try:
        yield
    except Exception as error:
        raise TrackingError(uri, error) from error


class Tracking:
    """One MLflow experiment.

    Args:
        uri: tracking URI; also the registry's.
        experiment: created if it is not there; with a SQLite URI its artefacts go to a folder
            ``mlartifacts`` beside the database, otherwise where the server says.

    Attributes:
        client: of MLflow, for what is not wrapped here.

    Raises:
        TrackingError: the database cannot be opened; a server is not asked yet.
    """

    def __init__(self, uri: str, experiment: str) -> None:
        self.uri = uri
        with reaching(uri):
            self.client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        self._experiment = experiment

    def experiment_id(self) -> str:
        """Return the experiment's id, creating it at first use.

        Raises:
            TrackingError: MLflow failed.
        """
        with reaching(self.uri):
            return self._find_experiment() or self._create_experiment()

    def _find_experiment(self) -> str | None:
        found = self.client.get_experiment_by_name(self._experiment)
        return None if found is None else str(found.experiment_id)

    def _create_experiment(self) -> str:
        artifacts = None
        if self.uri.startswith(_SQLITE):
            folder = Path(self.uri.removeprefix(_SQLITE)).resolve().parent / "mlartifacts"
            folder.mkdir(parents=True, exist_ok=True)
            artifacts = folder.as_uri()
        try:
            return self.client.create_experiment(self._experiment, artifact_location=artifacts)
        except MlflowException:
            # Two runs that start together both find none.
            created = self._find_experiment()
            if created is None:
                raise
            return created

    @contextmanager
    def run(self, run: str, tags: Mapping[str, str]) -> Iterator[str]:
        """Open an MLflow run for one of ours; it ends FINISHED or FAILED with the block.

        Yields:
            The MLflow run id.

        Raises:
            TrackingError: MLflow failed to open or to finish it. Where the block failed, its own
                exception is raised, whether MLflow could be told or not.
        """
        experiment = self.experiment_id()
        with reaching(self.uri):
            opened = self.client.create_run(experiment, run_name=run, tags={RUN_TAG: run, **tags})
        run_id = str(opened.info.run_id)
        try:
            yield run_id
        except BaseException:
            try:
                self.client.set_terminated(run_id, "FAILED")
            except Exception as error:
                log.warning("MLflow was not told that run %s failed (%s)", run_id, error)
            raise
        with reaching(self.uri):
            self.client.set_terminated(run_id, "FINISHED")

    def log(
        self,
        run_id: str,
        params: Mapping[str, object] | None = None,
        metrics: Mapping[str, float | None] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Log params, tags and final metrics; a metric that is None is left out.

        Raises:
            TrackingError: MLflow failed.
        """
        now = int(time.time() * 1000)
        with reaching(self.uri):
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

    def log_file(self, run_id: str, path: str, data: bytes) -> None:
        """Store bytes as an artefact under a relative path.

        Raises:
            TrackingError: MLflow failed.
        """
        with tempfile.TemporaryDirectory() as scratch, reaching(self.uri):
            file = Path(scratch) / Path(path).name
            file.write_bytes(data)
            self.client.log_artifact(run_id, str(file), str(Path(path).parent))

    def read_text(self, run_id: str, path: str) -> str | None:
        """Return an artefact of a run as text, None where the run has none of that path.

        Raises:
            TrackingError: MLflow could not be reached.
        """
        with reaching(self.uri):
            folder = str(Path(path).parent)
            known = self.client.list_artifacts(run_id, None if folder == "." else folder)
            if path not in {found.path for found in known}:
                return None
            with tempfile.TemporaryDirectory() as scratch:
                return Path(self.client.download_artifacts(run_id, path, scratch)).read_text()

    def log_dataset(self, run_id: str, name: str, digest: str, rows: int, source: str) -> None:
        """Log a data set that the run used: its version and row count, never a row.

        Args:
            run_id: of MLflow.
            name: of the data set.
            digest: its version.
            rows: how many.
            source: URI of the store that holds it.

        Raises:
            TrackingError: MLflow failed.
        """
        dataset = Dataset(name, digest, "site store", json.dumps({"uri": source}))
        tags = [InputTag("mlflow.data.context", "training"), InputTag("rows", str(rows))]
        with reaching(self.uri):
            self.client.log_inputs(run_id, [DatasetInput(dataset, tags)])


def use(tracking: Tracking, run_id: str) -> mlflow.ActiveRun:
    """Make an open run the active one for MLflow's fluent API, which logging a model needs.

    As a context manager; at its end MLflow marks the run as finished.
    """
    mlflow.set_tracking_uri(tracking.uri)
    mlflow.set_registry_uri(tracking.uri)
    return mlflow.start_run(run_id=run_id, log_system_metrics=False)

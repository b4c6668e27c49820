"""Where things are: the one module that reads the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from math import inf
from pathlib import Path

from fl_assets.cohorts.spec import CohortSpec, load_cohort
from fl_assets.config import load_yaml_model
from fl_assets.consortium import Consortium
from fl_assets.errors import FlAssetsError
from fl_assets.storage import Access, SiteStore, open_store
from fl_assets.storage.access import SESSION_LENGTH

WITHDRAWN = "withdrawn/"  # in the coordinator's store, a document per hospital that has withdrawn


@dataclass(frozen=True)
class Settings:
    """A checkout's configuration and data folder.

    Attributes:
        home: where data, runs and models go on the embedded default (``FLA_HOME``).
        consortium_file: ``FLA_CONSORTIUM``.
        recipes: folder of recipes, ``FLA_RECIPES``.
        tracking_uri: of MLflow, ``MLFLOW_TRACKING_URI``; SQLite in ``home`` by default.
        coordinator_uri: of the coordinator's own store, ``FLA_COORDINATOR``.
        data: where ``raw_dataset`` comes from, ``DATA``: ``synthetic``, ``kaggle`` or a path.
        synthetic_rows: rows that the generator makes, ``FLA_SYNTHETIC_ROWS``.
        runtime: where federations run, ``FLA_RUNTIME``; see
            :mod:`fl_assets.federation.runtimes.base`.
        metrics_port: of Prometheus metrics during a training, ``FLA_METRICS_PORT``; none if None.
        sensor_seconds: between two looks of Dagster's sensors, ``FLA_SENSOR_SECONDS``.
        upload_queue: URL of an SQS queue that S3 tells of new uploads, ``FLA_UPLOAD_QUEUE``; none
            if None.
        intake_engine: what reads and sorts uploads, ``FLA_INTAKE``: ``local`` or ``spark``.
        site_image, server_image: of a hospital's pods and of a training's server on Kubernetes,
            ``FLA_SITE_IMAGE`` and ``FLA_SERVER_IMAGE``.
    """

    home: Path
    consortium_file: Path
    recipes: Path
    tracking_uri: str
    coordinator_uri: str
    data: str = "synthetic"
    synthetic_rows: int = 5110
    runtime: str = "inprocess"
    metrics_port: int | None = None
    sensor_seconds: int = 30
    upload_queue: str | None = None
    intake_engine: str = "local"
    site_image: str | None = None
    server_image: str | None = None

    @classmethod
    def from_environment(cls) -> Settings:
        """Read the environment; relative paths start at the working directory.

        Raises:
            EnvironmentVariableError: a variable that is a number holds something else.
        """
        home = Path(_variable("FLA_HOME", ".fla")).resolve()
        return cls(
            home=home,
            consortium_file=Path(_variable("FLA_CONSORTIUM", "consortium.yaml")).resolve(),
            recipes=Path(_variable("FLA_RECIPES", "recipes")).resolve(),
            tracking_uri=_variable("MLFLOW_TRACKING_URI", f"sqlite:///{home}/mlflow.db"),
            coordinator_uri=_variable("FLA_COORDINATOR", (home / "coordinator").as_uri()),
            data=_variable("DATA", "synthetic"),
            synthetic_rows=_positive("FLA_SYNTHETIC_ROWS") or 5110,
            runtime=_variable("FLA_RUNTIME", "inprocess"),
            metrics_port=_positive("FLA_METRICS_PORT", at_most=65_535),
            sensor_seconds=_positive("FLA_SENSOR_SECONDS") or 30,
            upload_queue=_variable("FLA_UPLOAD_QUEUE", "") or None,
            intake_engine=_variable("FLA_INTAKE", "local"),
            site_image=_variable("FLA_SITE_IMAGE", "") or None,
            server_image=_variable("FLA_SERVER_IMAGE", "") or None,
        )

    @cached_property
    def whole_consortium(self) -> Consortium:
        """The consortium as its file has it, with the hospitals that have withdrawn.

        Raises:
            ConfigFileError: its file is missing or does not fit.
        """
        return load_yaml_model(self.consortium_file, Consortium)

    @cached_property
    def withdrawn(self) -> frozenset[str]:
        """Names of the hospitals that have withdrawn, as the coordinator keeps them.

        Raises:
            StorageError: the coordinator's store cannot be read.
        """
        keys = (info.key for info in self.coordinator_store().list(WITHDRAWN))
        return frozenset(key.removeprefix(WITHDRAWN).removesuffix(".json") for key in keys)

    @cached_property
    def consortium(self) -> Consortium:
        """The consortium without the hospitals that have withdrawn.

        Raises:
            ConfigFileError: its file is missing or does not fit.
            StorageError: the coordinator's store cannot be read.
        """
        whole = self.whole_consortium
        staying = tuple(h for h in whole.hospitals if h.name not in self.withdrawn)
        return whole.model_copy(update={"hospitals": staying})

    @cached_property
    def cohort(self) -> CohortSpec:
        """The consortium's cohort.

        Raises:
            ConfigFileError: no such cohort, or it does not fit.
        """
        return load_cohort(self.whole_consortium.cohort, self.consortium_file.parent)

    @property
    def model_name(self) -> str:
        """Name of the registered model."""
        return f"{self.whole_consortium.name}-{self.cohort.name}-risk"

    def site_uri(self, hospital: str) -> str:
        """URI of a hospital's store."""
        return self.whole_consortium.bucket_uri(hospital, self.home)

    def site_store(self, hospital: str) -> SiteStore:
        """Open a hospital's store under its own role or, without one, as whoever calls."""
        return open_store(self.site_uri(hospital), self.site_access(hospital))

    def site_access(self, hospital: str) -> Access:
        """Return as whom a hospital's code opens its store, and the key of its objects."""
        consortium = self.whole_consortium
        return Access(
            role=consortium.role_of(hospital),
            session=f"fl-assets-{hospital}"[:SESSION_LENGTH],
            kms_key=consortium.kms_key_of(hospital),
            region=consortium.region,
        )

    def listing_store(self, hospital: str) -> SiteStore:
        """Open a hospital's store as whoever calls: to list uploads and to read manifests.

        Where the hospital has a role, the coordinator may do nothing else
        (:func:`fl_assets.storage.policies.coordinator_policy`).
        """
        return open_store(self.site_uri(hospital), Access(region=self.whole_consortium.region))

    def site_environment(self, hospital: str) -> dict[str, str]:
        """Return the variables with the credentials of a hospital's store.

        They are in ``credentials/<hospital>.env`` in ``home``, a line ``NAME=value`` each, with
        ``#`` before a comment; none if the file is absent.

        Raises:
            CredentialsFileError: others can read the file, or a line is something else.
        """
        return _read_variables(self.home / "credentials" / f"{hospital}.env")

    def coordinator_store(self) -> SiteStore:
        """Open the coordinator's own store, which holds no row of a real hospital."""
        return open_store(self.coordinator_uri)


class EnvironmentVariableError(FlAssetsError):
    """An environment variable holds something else than it should."""


class CredentialsFileError(FlAssetsError):
    """A file of credentials that cannot be used as it is."""


def _read_variables(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise CredentialsFileError(f"others can read {path} (mode {mode:o}): chmod 600 it")
    found = {}
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = line.removeprefix("export ").partition("=")
        if not equals or not name.strip().isidentifier():
            # Without the line, which may be half a secret.
            raise CredentialsFileError(f"line {number} of {path} is no NAME=value: correct it")
        found[name.strip()] = value.strip().strip("\"'")
    return found


def _variable(name: str, default: str) -> str:
    # Compose files and CI systems pass an unset variable on as an empty one.
    return os.environ.get(name) or default


def _positive(name: str, at_most: float = inf) -> int | None:
    text = _variable(name, "")
    if not text:
        return None
    if not text.isdecimal() or not 1 <= int(text) <= at_most:
        bound = "" if at_most == inf else f" up to {at_most}"
        raise EnvironmentVariableError(
            f"{name} is {text!r}: set it to a positive whole number{bound}"
        )
    return int(text)

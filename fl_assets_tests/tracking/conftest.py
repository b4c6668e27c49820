"""An MLflow of a test's own, and one logged and registered model for all tests."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from fl_assets.cohorts.spec import CohortSpec, load_cohort
from fl_assets.learning.configs import MLPConfig
from fl_assets.learning.features import Preprocessor
from fl_assets.learning.models import build_model
from fl_assets.learning.weights import Weights
from fl_assets.tracking.models import CHAMPION, Registry, log_model
from fl_assets.tracking.runs import Tracking


@pytest.fixture(scope="session")
def cohort() -> CohortSpec:
    """The shipped cohort."""
    return load_cohort("stroke")


class Logged(NamedTuple):
    """A logged model, registered as version 1 and champion."""

    registry: Registry
    run_id: str
    uri: str
    folder: Path
    weights: Weights
    preprocessor: Preprocessor
    threshold: float


@pytest.fixture(scope="session")
def logged(
    _empty_database: Path, tmp_path_factory: pytest.TempPathFactory, cohort: CohortSpec
) -> Logged:
    """A model whose risks spread widely."""
    home = tmp_path_factory.mktemp("logged")
    database = shutil.copyfile(_empty_database, home / "mlflow.db")
    tracking = Tracking(f"sqlite:///{database}", "logged")
    preprocessor = Preprocessor.public(cohort)
    model = build_model(MLPConfig(hidden=(4,)), preprocessor.feature_groups, 0.3, seed=3)
    weights = {name: tensor.numpy() * 2 for name, tensor in model.state_dict().items()}
    with pytest.MonkeyPatch.context() as patch, tracking.run("a-run", {}) as run_id:
        # Where the environment forbids it, nobody would see what is compiled.
        patch.setattr(sys, "dont_write_bytecode", False)
        uri = log_model(tracking, run_id, weights, MLPConfig(hidden=(4,)), preprocessor, 0.25)
        registry = Registry(tracking, "test-model")
        version = registry.register(run_id, uri, {"recipe": "small-mlp"})
        registry.set_alias(CHAMPION, version)
    (folder,) = (home / "mlartifacts" / "models").iterdir()
    return Logged(registry, run_id, uri, folder / "artifacts", weights, preprocessor, 0.25)

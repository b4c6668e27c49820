"""Fixtures that several test folders use."""

import dataclasses
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from absl import logging as absl_logging
from filelock import FileLock

from fl_assets import pipeline
from fl_assets.settings import Settings
from fl_assets.tracking.runs import Tracking
from fl_assets_tests.infra import tool
from fl_assets_tests.world import build_world, dagster_instance, set_gates, settings_of

# Comes with dp-accounting, and closes the stream that it found at its import, pytest's own, when
# somebody configures logging anew.
absl_logging.get_absl_handler().python_handler.setStream(sys.__stderr__)

FINISHED_ROWS = 900


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before any fixture of the test, which may need a tool already."""
    tool.begins(item)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that are allowed the longest first: at the end, one worker would wait for another."""
    allowed: dict[Path, float] = {}
    for item in items:
        mark = item.get_closest_marker("timeout")
        seconds = float(mark.args[0]) if mark else 0
        allowed[item.path] = max(seconds, allowed.get(item.path, 0))
    items.sort(key=lambda item: -allowed[item.path])


REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def stroke_csv() -> Path:
    """The public stroke file; tests that need it carry the marker real_data."""
    default = REPOSITORY.parent / "shared/data/stroke/healthcare-dataset-stroke-data.csv"
    path = Path(os.environ.get("FLA_STROKE_CSV", default))
    if not path.is_file():
        pytest.skip("the public stroke file is absent: set FLA_STROKE_CSV")
    return path


@pytest.fixture(scope="session")
def _empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # MLflow takes seconds to create its tables.
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    Tracking(f"sqlite:///{path}", "none").client.search_experiments()
    return path


@pytest.fixture
def tracking(_empty_database: Path, tmp_path: Path) -> Tracking:
    """A real MLflow over SQLite."""
    database = shutil.copyfile(_empty_database, tmp_path / "mlflow.db")
    return Tracking(f"sqlite:///{database}", "test-experiment")


@pytest.fixture(scope="session")
def _pristine_world(_empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("world")
    build_world(home)
    shutil.copyfile(_empty_database, home / "mlflow.db")
    return home


@pytest.fixture
def world(_pristine_world: Path, tmp_path: Path) -> Settings:
    """A simulated consortium of three small hospitals, a test's own; see ``world.py``.

    Hospital-b has a single class among its validation and test rows.
    """
    home = tmp_path / "world"
    shutil.copytree(_pristine_world, home)
    return settings_of(home)


@pytest.fixture(scope="session")
def _finished_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One whole run of the main job; the tests change copies of it.

    It takes a while, so the workers of a parallel run share one.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    home = shared / "finished-world"
    with FileLock(shared / "finished-world.lock"):
        if not (home / "finished").exists():
            shutil.rmtree(home, ignore_errors=True)
            home.mkdir()
            settings = dataclasses.replace(build_world(home), synthetic_rows=FINISHED_ROWS)
            # A few rounds on a few rows rank no better than chance: the machinery is under test.
            set_gates(settings, min_auroc=0.0, min_gain_over_age_only=-1.0, max_ece=1.0)
            with dagster_instance(home) as instance:
                list(pipeline.run(dataclasses.replace(settings), instance))
            (home / "finished").touch()
    return home


@pytest.fixture
def finished_world(_finished_world: Path, tmp_path: Path) -> Settings:
    """A small world after one whole run of the main job, a test's own."""
    home = tmp_path / "finished"
    shutil.copytree(_finished_world, home)
    return dataclasses.replace(settings_of(home), synthetic_rows=FINISHED_ROWS)


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """The Dagster instance of ``finished_world``; an empty one where a test has none."""
    with dagster_instance(tmp_path / "finished") as found:
        yield found

"""Fixtures that several test folders use."""

import os
import shutil
from pathlib import Path

import pytest

from fl_assets.settings import Settings
from fl_assets_tests.world import build_world, settings_of

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
def _pristine_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("world")
    build_world(home)
    return home


@pytest.fixture
def world(_pristine_world: Path, tmp_path: Path) -> Settings:
    """A simulated consortium of three small hospitals, a test's own; see ``world.py``.

    Hospital-b has a single class among its validation and test rows.
    """
    home = tmp_path / "world"
    shutil.copytree(_pristine_world, home)
    return settings_of(home)

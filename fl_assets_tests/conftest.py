"""Fixtures that several test folders use."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def stroke_csv() -> Path:
    """The public stroke file; tests that need it carry the marker real_data."""
    default = REPOSITORY.parent / "shared/data/stroke/healthcare-dataset-stroke-data.csv"
    path = Path(os.environ.get("FLA_STROKE_CSV", default))
    if not path.is_file():
        pytest.skip("the public stroke file is absent: set FLA_STROKE_CSV")
    return path

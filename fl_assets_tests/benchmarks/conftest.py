import pytest

from fl_assets.cohorts.source import fetch
from fl_assets.cohorts.spec import load_cohort


@pytest.fixture(scope="session")
def small_csv(tmp_path_factory):
    """Synthetic rows: enough strokes for two folds at every hospital, no more."""
    path = tmp_path_factory.mktemp("data") / "small.csv"
    path.write_bytes(fetch("synthetic", load_cohort("stroke"), 1500, seed=1).data)
    return path

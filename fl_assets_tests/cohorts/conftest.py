from pathlib import Path

import pandas as pd
import pytest

from fl_assets.cohorts.contract import check_rows
from fl_assets.cohorts.reader import read_rows
from fl_assets.cohorts.spec import CohortSpec, load_cohort
from fl_assets.cohorts.synthetic import generate


@pytest.fixture(scope="session")
def stroke() -> CohortSpec:
    return load_cohort("stroke")


@pytest.fixture(scope="session")
def asthma() -> CohortSpec:
    return load_cohort("asthma.yaml", Path(__file__).parent)


@pytest.fixture(scope="session")
def many(stroke: CohortSpec) -> pd.DataFrame:
    """A synthetic stroke file, text, large enough for tight tolerances."""
    return generate(stroke, rows=100_000, seed=1)


@pytest.fixture(scope="session")
def synthetic_stroke(stroke: CohortSpec) -> pd.DataFrame:
    """Typed synthetic rows, as many as the public file has."""
    text = generate(stroke).to_csv(index=False).encode()
    return check_rows(read_rows(text, stroke, "synthetic.csv"), stroke).accepted


@pytest.fixture(scope="session")
def real_stroke(stroke: CohortSpec, stroke_csv: Path) -> pd.DataFrame:
    """The public file's rows, typed."""
    return check_rows(read_rows(stroke_csv.read_bytes(), stroke, "real.csv"), stroke).accepted

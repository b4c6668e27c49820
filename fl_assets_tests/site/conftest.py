"""A hospital's store and patients to put into it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fl_assets.cohorts.contract import check_rows
from fl_assets.cohorts.reader import read_rows
from fl_assets.cohorts.spec import CohortSpec, load_cohort
from fl_assets.cohorts.synthetic import generate
from fl_assets.consortium import SplitFractions
from fl_assets.site.partitions import deal_parts, write_partitions
from fl_assets.site.rows import SITE_KEY
from fl_assets.storage import FolderStore

FRACTIONS = SplitFractions(salt="a hospital's salt")


@pytest.fixture(scope="session")
def stroke() -> CohortSpec:
    return load_cohort("stroke")


@pytest.fixture(scope="session")
def patients(stroke: CohortSpec) -> pd.DataFrame:
    """Typed synthetic rows."""
    text = generate(stroke, 2000, 11).to_csv(index=False)
    return check_rows(read_rows(text.encode(), stroke, "patients.csv"), stroke).accepted


@pytest.fixture(scope="session")
def real_patients(stroke: CohortSpec, stroke_csv: Path) -> pd.DataFrame:
    """The public file's rows, typed."""
    return check_rows(read_rows(stroke_csv.read_bytes(), stroke, "real.csv"), stroke).accepted


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "hospital")


def store_with_key(path: Path) -> FolderStore:
    """A store whose hospital has the same secret as any other of these."""
    store = FolderStore(path)
    store.put(SITE_KEY, b"the secret of several stores ...")
    return store


@pytest.fixture
def dealt(store: FolderStore, stroke: CohortSpec, patients: pd.DataFrame) -> FolderStore:
    """A store with partitions of the patients."""
    write_partitions(store, patients, deal_parts(patients["id"], FRACTIONS), stroke, "none")
    return store


def put_parts(store: FolderStore, spec: CohortSpec, **frames: pd.DataFrame) -> None:
    """Store partitions with these rows, by part; a part that is not named is empty."""
    parts = np.array([part for part, frame in frames.items() for _ in range(len(frame))], "<U10")
    write_partitions(store, pd.concat(frames.values()), parts, spec, "none")

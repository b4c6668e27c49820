from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fl_assets.cohorts.contract import check_rows
from fl_assets.cohorts.reader import read_rows
from fl_assets.cohorts.spec import CohortSpec, load_cohort
from fl_assets.cohorts.synthetic import generate
from fl_assets.coordinator.simulation import upload
from fl_assets.site import rows
from fl_assets.site.intake import collect_records
from fl_assets.storage import FolderStore


@pytest.fixture(scope="module")
def stroke() -> CohortSpec:
    return load_cohort("stroke")


@pytest.fixture(scope="module")
def patients(stroke: CohortSpec) -> pd.DataFrame:
    text = generate(stroke, 300, 2).to_csv(index=False).encode()
    return check_rows(read_rows(text, stroke, "patients.csv"), stroke).accepted


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path)


def keys(store: FolderStore) -> list[str]:
    return [info.key for info in store.list("incoming/")]


def test_rows_arrive_as_they_were(
    store: FolderStore, stroke: CohortSpec, patients: pd.DataFrame
) -> None:
    version = upload(store, patients, stroke)
    assert keys(store) == [f"incoming/simulated-{version}.csv"]
    manifest = collect_records(store, stroke)
    expected = patients.sort_values("id", ignore_index=True)
    pd.testing.assert_frame_equal(rows.read_rows(store, manifest.key), expected)
    assert np.isnan(expected["bmi"]).any()


def test_the_same_rows_again_leave_the_upload_alone(
    store: FolderStore, stroke: CohortSpec, patients: pd.DataFrame
) -> None:
    version = upload(store, patients, stroke)
    before = store.list()
    assert upload(store, patients, stroke) == version
    assert store.list() == before


def test_other_rows_take_the_place_of_the_earlier(
    store: FolderStore, stroke: CohortSpec, patients: pd.DataFrame
) -> None:
    first = upload(store, patients.iloc[:100], stroke)
    second = upload(store, patients.iloc[100:], stroke)
    assert first != second
    assert keys(store) == [f"incoming/simulated-{second}.csv"]
    assert collect_records(store, stroke).rows == 200


def test_uploads_of_people_stay(
    store: FolderStore, stroke: CohortSpec, patients: pd.DataFrame
) -> None:
    store.put("incoming/from-a-person.csv", patients.iloc[:5].to_csv(index=False).encode())
    upload(store, patients.iloc[5:9], stroke)
    version = upload(store, patients.iloc[5:10], stroke)
    assert keys(store) == ["incoming/from-a-person.csv", f"incoming/simulated-{version}.csv"]
    assert collect_records(store, stroke).rows == 10

"""Files of patients to be scored."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fl_assets.cohorts.reader import HeaderError
from fl_assets.cohorts.scoring import ScoringFileError, read_features
from fl_assets.cohorts.spec import CohortSpec
from fl_assets.cohorts.synthetic import generate


def text(frame: pd.DataFrame) -> bytes:
    return frame.to_csv(index=False).encode()


@pytest.fixture
def patients(stroke: CohortSpec) -> pd.DataFrame:
    return generate(stroke, 300, seed=4)


def test_numbers_are_numbers_and_missing_is_missing(
    stroke: CohortSpec, patients: pd.DataFrame
) -> None:
    found = read_features(text(patients), stroke, "p.csv")
    assert len(found) == 300
    missing = patients["bmi"] == "N/A"
    assert missing.any()
    assert (found["bmi"].isna() == missing).all()
    present = patients.loc[~missing, "bmi"].astype(float)
    np.testing.assert_allclose(found.loc[~missing, "bmi"], present)
    assert (found["smoking_status"] == patients["smoking_status"]).all()


@pytest.mark.parametrize("left_out", [["id"], ["stroke"], ["id", "stroke"]])
def test_id_and_label_may_be_left_out(
    stroke: CohortSpec, patients: pd.DataFrame, left_out: list[str]
) -> None:
    found = read_features(text(patients.drop(columns=left_out)), stroke, "p.csv")
    assert not set(left_out) & set(found.columns)
    assert set(stroke.column_names) <= set(found.columns)


def test_a_feature_column_may_not(stroke: CohortSpec, patients: pd.DataFrame) -> None:
    with pytest.raises(HeaderError, match="missing: age"):
        read_features(text(patients.drop(columns="age")), stroke, "p.csv")


@pytest.mark.parametrize("canary", ["4x2", "inf", "-inf", "1e999"])
def test_a_field_that_is_no_number_is_counted_and_never_shown(
    stroke: CohortSpec, patients: pd.DataFrame, canary: str
) -> None:
    patients.loc[[3, 5], "avg_glucose_level"] = canary
    with pytest.raises(ScoringFileError, match="'avg_glucose_level' is not a number in 2") as error:
        read_features(text(patients), stroke, "p.csv")
    assert canary not in str(error.value)


def test_a_row_of_another_shape_is_counted(stroke: CohortSpec, patients: pd.DataFrame) -> None:
    lines = text(patients).decode().splitlines()
    lines.insert(4, "1;2;3")
    with pytest.raises(ScoringFileError, match="1 rows have another number of fields"):
        read_features("\n".join(lines).encode() + b"\n", stroke, "p.csv")

"""Files with and without a header."""

from __future__ import annotations

import pandas as pd
import pytest

from fl_assets.cohorts.contract import check_rows
from fl_assets.cohorts.layout import HeaderError
from fl_assets.cohorts.reader import LINE, PROBLEM, read_rows
from fl_assets.cohorts.scoring import read_features
from fl_assets.cohorts.spec import CohortSpec
from fl_assets_tests.cohorts.heart import EXAMPLE, heart

ROWS = ["63,1,1,145,233,1,2,150,0,2.3,3,0,6,0", "67,1,4,160,286,0,2,108,1,1.5,2,3,?,2"]


@pytest.fixture(scope="module")
def spec() -> CohortSpec:
    return heart()


@pytest.fixture(scope="module")
def expected(spec: CohortSpec) -> pd.DataFrame:
    return read_rows("\n".join(ROWS).encode(), spec, "upload")


def test_the_first_line_is_a_patient(spec: CohortSpec, expected: pd.DataFrame) -> None:
    assert expected[LINE].tolist() == [1, 2]
    assert expected["age"].tolist() == ["63", "67"]
    assert expected["num"].tolist() == ["0", "2"]


@pytest.mark.parametrize("delimiter", [";", "\t", "|"], ids=["semicolon", "tab", "bar"])
def test_other_delimiters(delimiter: str, spec: CohortSpec, expected: pd.DataFrame) -> None:
    data = "\n".join(row.replace(",", delimiter) for row in ROWS).encode()
    pd.testing.assert_frame_equal(read_rows(data, spec, "upload"), expected)


def test_a_header_all_the_same_is_read_as_one(spec: CohortSpec, expected: pd.DataFrame) -> None:
    order = list(reversed(spec.file_order))
    lines = [",".join(order), *[",".join(reversed(row.split(","))) for row in ROWS]]
    found = read_rows("\n".join(lines).encode(), spec, "upload")
    assert found[LINE].tolist() == [2, 3]
    columns = [spec.key_column, *spec.file_columns]
    pd.testing.assert_frame_equal(found[columns], expected[columns])
    with pytest.raises(HeaderError, match="missing: num"):
        read_rows("\n".join(line.partition(",")[2] for line in lines).encode(), spec, "upload")


def test_a_damaged_first_line_is_one_bad_row(spec: CohortSpec) -> None:
    found = read_rows("\n".join(["1,2;3", *ROWS]).encode(), spec, "upload")
    assert found[PROBLEM].notna().tolist() == [True, False, False]


def test_another_number_of_columns_is_refused_with_the_order(spec: CohortSpec) -> None:
    with pytest.raises(HeaderError) as caught:
        read_rows("\n".join(row + ",canary7" for row in ROWS).encode(), spec, "upload")
    said = str(caught.value)
    assert "the first line has 15 fields where a file of cohort heart has 14" in said
    assert "without a header: age, sex, cp" in said
    assert "canary" not in said


def test_files_to_be_scored_may_lack_the_label(spec: CohortSpec) -> None:
    whole = read_features("\n".join(ROWS).encode(), spec, "p")
    without = read_features("\n".join(r.rpartition(",")[0] for r in ROWS).encode(), spec, "p")
    assert list(without) == spec.column_names
    pd.testing.assert_frame_equal(without, whole[spec.column_names])
    assert whole["cp"].tolist() == ["typical angina", "asymptomatic"]
    assert whole["num"].tolist() == [0.0, 1.0]
    assert whole["thal"].isna().tolist() == [False, True]


@pytest.mark.parametrize("file", ["north.data", "south.csv", "clinic.csv.gz", "practice.csv"])
def test_the_example_fits_its_cohort(file: str, spec: CohortSpec) -> None:
    raw = read_rows((EXAMPLE / "uploads" / file).read_bytes(), spec, file)
    counts = check_rows(raw, spec).counts
    assert counts.accepted == counts.rows_in == len(raw)

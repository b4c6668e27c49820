"""Keys of rows where there is no id."""

from __future__ import annotations

import io

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_assets.cohorts.contract import check_rows
from fl_assets.cohorts.reader import read_batches, read_rows
from fl_assets.cohorts.spec import ROW_ID, CohortSpec
from fl_assets_tests.cohorts.heart import heart

ROWS = [
    "63,1,1,145,233,1,2,150,0,2.3,3,0,6,0",
    "67,1,4,160,286,0,2,108,1,1.5,2,3,3,2",
    "41,0,2,130,204,?,2,172,0,1.4,1,0,3,0",
]


@pytest.fixture(scope="module")
def spec() -> CohortSpec:
    return heart()


def keys(lines: list[str], spec: CohortSpec, rows: int = 100) -> list[str]:
    data = "".join(line + "\n" for line in lines).encode()
    batches = list(read_batches(io.BytesIO(data), spec, "upload", rows=rows))
    return list(pd.concat(batches)[ROW_ID])


def test_equal_rows_are_counted(spec: CohortSpec) -> None:
    found = keys([*ROWS, ROWS[0], ROWS[0]], spec)
    assert len(set(found)) == 5
    first = found[0].removesuffix("-1")
    assert [found[3], found[4]] == [f"{first}-2", f"{first}-3"]


def test_a_key_is_of_what_a_row_holds_and_not_how_it_is_spelt(spec: CohortSpec) -> None:
    other = ["63.0,01,typical angina,145,233.00,1,2.0,150,0,2.30,3,0,6.0,0.0", ROWS[1], ROWS[2]]
    assert keys(other, spec) == keys(ROWS, spec)
    unlike = ["63,1,1,145,233,1,2,150,0,2.3,3,0,6,1", *ROWS[1:]]
    assert keys(unlike, spec)[0] != keys(ROWS, spec)[0]
    # The grade of narrowing is one code of several for the same label, and so the same content.
    assert keys([ROWS[1][:-1] + "4"], spec) == keys([ROWS[1]], spec)


def test_missing_is_no_value(spec: CohortSpec) -> None:
    assert keys([ROWS[2].replace("?", "")], spec) == keys([ROWS[2]], spec)
    assert keys([ROWS[2].replace("?", "0")], spec) != keys([ROWS[2]], spec)


@settings(max_examples=20, deadline=None)
@given(places=st.lists(st.integers(0, 2), min_size=1, max_size=30), rows=st.integers(1, 7))
def test_keys_are_unique_and_those_of_the_file(
    spec: CohortSpec, places: list[int], rows: int
) -> None:
    lines = [ROWS[place] for place in places]
    found = keys(lines, spec, rows)
    assert len(set(found)) == len(lines)
    assert found == keys(lines, spec)


def test_a_row_of_another_shape_has_no_key(spec: CohortSpec) -> None:
    raw = read_rows("\n".join([*ROWS, "1,2,3\n"]).encode(), spec, "upload")
    assert raw[ROW_ID].isna().tolist() == [False, False, False, True]
    checked = check_rows(raw, spec)
    assert list(checked.accepted) == spec.frame_columns
    assert checked.counts.quarantined == 1


def test_one_file_twice_is_the_same_patients(spec: CohortSpec) -> None:
    assert keys(ROWS, spec) == keys(ROWS, spec)

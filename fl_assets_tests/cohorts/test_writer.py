"""Writing what is read again."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fl_assets.cohorts.contract import check_rows
from fl_assets.cohorts.reader import read_rows
from fl_assets.cohorts.spec import CohortSpec, load_cohort
from fl_assets.cohorts.synthetic import generate
from fl_assets.cohorts.writer import write_file
from fl_assets_tests.cohorts.heart import heart


@pytest.mark.parametrize("name", ["stroke", "heart"])
@pytest.mark.parametrize("random", [None, 3], ids=["first-spelling", "any-spelling"])
def test_accepted_rows_come_back(name: str, random: int | None) -> None:
    spec = heart() if name == "heart" else load_cohort(name)
    drawn = write_file(generate(spec, 200, 5), spec, np.random.default_rng(1))
    rows = check_rows(read_rows(drawn, spec, "a"), spec).accepted
    data = write_file(rows, spec, None if random is None else np.random.default_rng(random))
    again = check_rows(read_rows(data, spec, "b"), spec).accepted
    pd.testing.assert_frame_equal(again, rows)


def test_the_layout_of_the_cohort() -> None:
    spec: CohortSpec = heart()
    text = write_file(generate(spec, 50, 5), spec, np.random.default_rng(1)).decode()
    fields = [line.split(",") for line in text.splitlines()]
    assert len(fields) == 50
    assert {row[2] for row in fields} == {"1", "2", "3", "4"}
    assert {row[-1] for row in fields} == {"0", "1", "2", "3", "4"}
    assert {row[12] for row in fields} <= {"3", "6", "7", "?"}

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import jensenshannon

from fl_assets.cohorts.spec import CohortSpec
from fl_assets.cohorts.split_report import jensen_shannon, report_split


@pytest.fixture
def parts(synthetic_stroke: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {"a": synthetic_stroke.iloc[:2000], "b": synthetic_stroke.iloc[2000:]}


def test_distance_is_scipys() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        p, q = random.integers(0, 9, size=(2, 6))
        p[0], q[-1] = 3, 5
        assert jensen_shannon(p, q) == pytest.approx(jensenshannon(p, q, base=2), abs=1e-9)
    assert jensen_shannon(np.array([1, 0]), np.array([0, 4])) == 1
    assert jensen_shannon(np.array([1, 2]), np.array([2, 4])) == 0


def test_figures_of_a_hospital(
    stroke: CohortSpec, synthetic_stroke: pd.DataFrame, parts: dict[str, pd.DataFrame]
) -> None:
    report = report_split(synthetic_stroke, parts, stroke)
    assert report.problems == []
    share, part = report.hospitals[0], parts["a"]
    assert (share.hospital, share.rows) == ("a", 2000)
    assert share.positives == part["stroke"].sum()
    assert share.label_rate == pytest.approx(part["stroke"].mean())
    assert share.mean_age == pytest.approx(part["age"].mean())
    assert list(share.distance) == stroke.column_names

    def cells(frame: pd.DataFrame) -> pd.Series:
        edges = [8, 18.5, 25, 30, 35, 40, 121]
        return pd.cut(frame["bmi"], edges, right=False).value_counts(dropna=False).sort_index()

    expected = jensenshannon(cells(part), cells(synthetic_stroke), base=2)
    assert share.distance["bmi"] == pytest.approx(expected)


def test_a_doubled_row_is_seen(
    stroke: CohortSpec, synthetic_stroke: pd.DataFrame, parts: dict[str, pd.DataFrame]
) -> None:
    parts["b"] = pd.concat([parts["b"], parts["a"].iloc[:1]])
    problems = report_split(synthetic_stroke, parts, stroke).problems
    assert problems == ["1 ids were dealt more than once", "5111 rows were dealt out of 5110"]


def test_a_lost_row_is_seen(
    stroke: CohortSpec, synthetic_stroke: pd.DataFrame, parts: dict[str, pd.DataFrame]
) -> None:
    parts["a"] = parts["a"].iloc[3:]
    problems = report_split(synthetic_stroke, parts, stroke).problems
    assert problems == ["3 ids were dealt to no hospital", "5107 rows were dealt out of 5110"]


def test_a_doubled_row_does_not_hide_a_lost_one(
    stroke: CohortSpec, synthetic_stroke: pd.DataFrame, parts: dict[str, pd.DataFrame]
) -> None:
    parts["b"] = pd.concat([parts["b"].iloc[1:], parts["a"].iloc[:1]])
    problems = report_split(synthetic_stroke, parts, stroke).problems
    assert problems == ["1 ids were dealt more than once", "1 ids were dealt to no hospital"]


def test_rows_of_another_data_set_are_seen(
    stroke: CohortSpec, synthetic_stroke: pd.DataFrame, parts: dict[str, pd.DataFrame]
) -> None:
    problems = report_split(synthetic_stroke.iloc[5:], parts, stroke).problems
    assert "5 dealt rows are not in the data set" in problems


def test_a_repeated_id_is_seen(stroke: CohortSpec, synthetic_stroke: pd.DataFrame) -> None:
    frame = pd.concat([synthetic_stroke, synthetic_stroke.iloc[:2]])
    problems = report_split(frame, {"a": frame}, stroke).problems
    assert problems[0] == "2 rows repeat an id of the data set: ids must be unique"


def test_a_hospital_without_rows_is_seen_and_has_no_rates(
    stroke: CohortSpec, synthetic_stroke: pd.DataFrame
) -> None:
    parts = {"a": synthetic_stroke, "b": synthetic_stroke.iloc[:0]}
    report = report_split(synthetic_stroke, parts, stroke)
    assert report.problems == ["no rows for b: use more rows or fewer hospitals"]
    assert report.hospitals[1].label_rate is None
    assert report.hospitals[1].mean_age is None

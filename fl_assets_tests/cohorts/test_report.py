import numpy as np
import pandas as pd
import pytest

from fl_assets.cohorts.report import DataReport, ReportColumnsError, data_report
from fl_assets.cohorts.spec import load_cohort

NUMBERS = ["age", "avg_glucose_level", "bmi"]


@pytest.fixture(scope="module")
def spec():
    return load_cohort("stroke")


@pytest.fixture(scope="module")
def frame(spec):
    rng = np.random.default_rng(0)
    n = 500
    columns = {"id": [f"p{i}" for i in range(n)]}
    for column in spec.columns:
        if column.kind == "category":
            columns[column.name] = rng.choice(column.categories, n)
        elif column.kind == "flag":
            columns[column.name] = (rng.random(n) < 0.1).astype(np.int8)
        else:
            columns[column.name] = rng.uniform(*column.range, n)
    columns["stroke"] = (rng.random(n) < 0.05).astype(np.int8)
    frame = pd.DataFrame(columns)
    frame.loc[rng.random(n) < 0.2, "bmi"] = np.nan
    return frame


@pytest.fixture(scope="module")
def report(frame, spec):
    return data_report(frame, spec)


def test_summaries_are_those_of_pandas(report, frame, spec):
    for name in NUMBERS:
        summary, values = report.numbers[name], frame[name].dropna()
        assert summary.count == len(values)
        assert (summary.mean, summary.sd) == pytest.approx((values.mean(), values.std()))
        for quantile, found in summary.quantiles.items():
            assert found == pytest.approx(values.quantile(float(quantile)))
        column = spec.column(name)
        assert summary.below == (values < column.public.low).sum()
        assert summary.above == (values > column.public.high).sum()
        assert summary.unit == column.unit
    assert report.numbers["avg_glucose_level"].above > 0
    assert report.missing == pytest.approx(frame[spec.column_names].isna().mean().to_dict())


def test_histograms_count_every_value_once(report, frame, spec):
    for name in NUMBERS:
        summary, edges = report.numbers[name], spec.column(name).bins
        cells = pd.cut(frame[name], edges, right=False).value_counts(sort=False)
        assert summary.histogram == cells.tolist()
        assert sum(summary.histogram) + summary.outside_bins == summary.count
        assert summary.edges == list(edges)


def test_values_that_no_bin_holds_are_counted(frame, spec):
    odd = frame.copy()
    odd.loc[:6, "age"] = 150.0
    assert data_report(odd, spec).numbers["age"].outside_bins == 7


def test_categories_and_flags(report, frame, spec):
    assert list(report.categories["work_type"]) == list(spec.column("work_type").categories)
    assert report.categories["gender"] == frame["gender"].value_counts().to_dict()
    ones = int(frame["hypertension"].sum())
    assert report.categories["hypertension"] == {"0": 500 - ones, "1": ones}
    assert "age" not in report.categories


def test_a_category_nobody_has_is_a_zero(frame, spec):
    women = frame[frame["gender"] == "Female"]
    assert data_report(women, spec).categories["gender"]["Other"] == 0


def test_imbalance(report, frame):
    positives = int(frame["stroke"].sum())
    assert (report.rows, report.positives) == (500, positives)
    assert report.label_rate == pytest.approx(positives / 500)
    assert report.negatives_per_positive == pytest.approx((500 - positives) / positives)


def test_correlation_is_pairwise_complete(report, frame):
    assert report.correlated == [*NUMBERS, "hypertension", "heart_disease", "stroke"]
    both = frame[["age", "bmi"]].dropna()
    found = report.correlation[0][2]
    assert found == pytest.approx(np.corrcoef(both["age"], both["bmi"])[0, 1])
    np.testing.assert_allclose(report.correlation, np.transpose(report.correlation))


def test_what_does_not_vary_correlates_with_nothing(frame, spec):
    found = data_report(frame[frame["stroke"] == 0], spec)
    assert set(found.correlation[-1]) == {None}
    assert found.negatives_per_positive is None
    assert DataReport.model_validate_json(found.model_dump_json()) == found


def test_an_empty_cohort_has_a_report(frame, spec):
    found = data_report(frame[:0], spec)
    assert (found.rows, found.label_rate) == (0, None)
    assert found.numbers["age"].mean is None
    assert found.numbers["age"].quantiles == {}
    assert data_report(frame[:1], spec).numbers["age"].sd is None


def test_json_both_ways_without_identities(report):
    text = report.model_dump_json()
    assert DataReport.model_validate_json(text) == report
    assert "p17" not in text


def test_a_column_that_is_not_there_is_named(frame, spec):
    with pytest.raises(ReportColumnsError, match="bmi, stroke"):
        data_report(frame.drop(columns=["bmi", "stroke"]), spec)

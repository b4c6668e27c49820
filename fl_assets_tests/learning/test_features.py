import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from fl_assets.cohorts.spec import CohortSpec, load_cohort
from fl_assets.learning.features import (
    FeatureError,
    Moments,
    MomentsUnavailableError,
    Preprocessor,
    combine,
)


@pytest.fixture(scope="module")
def stroke() -> CohortSpec:
    return load_cohort("stroke")


@pytest.fixture(scope="module")
def rows(stroke: CohortSpec) -> pd.DataFrame:
    """Rows with every category of the cohort and a missing bmi."""
    rng = np.random.default_rng(0)
    n = 60
    frame: dict[str, Any] = {}
    for column in stroke.columns:
        if column.kind == "number":
            frame[column.name] = rng.uniform(column.public.low, column.public.high, n)
        elif column.kind == "category":
            frame[column.name] = list(itertools.islice(itertools.cycle(column.categories), n))
        else:
            frame[column.name] = rng.integers(0, 2, n)
    frame["bmi"][[3, 7]] = np.nan
    return pd.DataFrame(frame)


def moments_of(frame: pd.DataFrame, spec: CohortSpec) -> dict[str, Moments | None]:
    return {
        c.name: Moments.of(frame[c.name].dropna().to_numpy(), c.public.center) for c in spec.numbers
    }


def test_public_features_equal_the_published_formula(
    stroke: CohortSpec, rows: pd.DataFrame
) -> None:
    preprocessor = Preprocessor.public(stroke)
    found = pd.DataFrame(preprocessor.transform(rows), columns=preprocessor.feature_names)

    np.testing.assert_allclose(found["age"], (rows["age"] - 50) / 25, rtol=1e-6)
    glucose = (rows["avg_glucose_level"].clip(50, 300) - 110) / 60
    np.testing.assert_allclose(found["avg_glucose_level"], glucose, rtol=1e-5, atol=1e-6)
    bmi = (rows["bmi"].fillna(28).clip(10, 60) - 28) / 10
    np.testing.assert_allclose(found["bmi"], bmi, rtol=1e-5, atol=1e-6)
    assert found["bmi_missing"].tolist() == rows["bmi"].isna().astype(float).tolist()
    assert found["hypertension"].tolist() == rows["hypertension"].tolist()


def test_categories_are_coded_as_scikit_learn_codes_them(
    stroke: CohortSpec, rows: pd.DataFrame
) -> None:
    preprocessor = Preprocessor.public(stroke)
    found = pd.DataFrame(preprocessor.transform(rows), columns=preprocessor.feature_names)

    encoder = OneHotEncoder(
        categories=[["Private", "Self-employed", "Govt_job", "children", "Never_worked"]],
        drop=["Private"],
        sparse_output=False,
    )
    expected = encoder.fit_transform(rows[["work_type"]])
    coded = ["Self-employed", "Govt_job", "children", "Never_worked"]
    np.testing.assert_array_equal(found[[f"work_type={c}" for c in coded]], expected)
    # An ignored category is coded like the reference.
    assert "gender=Other" not in found
    assert (found.loc[rows["gender"] == "Other", "gender=Male"] == 0).all()


def test_a_matrix_is_finite_float32_with_a_name_per_column(
    stroke: CohortSpec, rows: pd.DataFrame
) -> None:
    preprocessor = Preprocessor.public(stroke)
    found = preprocessor.transform(rows)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert found.shape == (len(rows), len(preprocessor.feature_names))
    assert len(set(preprocessor.feature_names)) == len(preprocessor.feature_names)
    assert preprocessor.transform(rows[:0]).shape == (0, found.shape[1])


def test_moments_of_parts_equal_scikit_learns_fit_on_all(
    stroke: CohortSpec, rows: pd.DataFrame
) -> None:
    parts = [moments_of(part, stroke) for part in (rows[:9], rows[9:10], rows[10:])]
    combined = {c.name: combine([p[c.name] for p in parts]) for c in stroke.numbers}

    preprocessor = Preprocessor.from_moments(stroke, combined)

    for name in ("age", "avg_glucose_level", "bmi"):
        scaler = StandardScaler().fit(rows[[name]].dropna().to_numpy())
        assert preprocessor.scalings[name].center == pytest.approx(scaler.mean_[0], abs=1e-9)
        assert preprocessor.scalings[name].scale == pytest.approx(scaler.scale_[0], abs=1e-9)
    found = pd.DataFrame(preprocessor.transform(rows), columns=preprocessor.feature_names)
    assert found.loc[rows["bmi"].isna(), "bmi"].abs().max() == 0


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
def test_a_deviation_does_not_depend_on_the_unit(unit: float) -> None:
    values = np.array([1.0, 2.0, 4.0]) * unit
    found = Moments.of(values, origin=2 * unit)
    assert found.deviation == pytest.approx(values.std(), rel=1e-9)


@pytest.mark.parametrize("value", [1e-7, 3.3, 1e7])
def test_a_constant_column_is_not_divided_by_zero(value: float) -> None:
    assert Moments.of(np.full(7, value), origin=0.5).deviation == 1.0
    assert Moments.of(np.full(7, value), origin=value).deviation == 1.0


def test_nothing_combines_to_nothing(stroke: CohortSpec, rows: pd.DataFrame) -> None:
    assert combine([]) is None
    assert combine([Moments.of(np.array([]), 0.0)]) is None
    with pytest.raises(MomentsUnavailableError, match="bmi"):
        Preprocessor.from_moments(stroke, moments_of(rows, stroke) | {"bmi": None})


def test_the_json_is_the_preprocessor(stroke: CohortSpec, rows: pd.DataFrame) -> None:
    for made in (
        Preprocessor.public(stroke),
        Preprocessor.from_moments(stroke, moments_of(rows, stroke)),
    ):
        read = Preprocessor.model_validate_json(made.model_dump_json())
        assert read.version == made.version
        np.testing.assert_array_equal(read.transform(rows), made.transform(rows))


def test_the_version_changes_with_the_constants(stroke: CohortSpec, rows: pd.DataFrame) -> None:
    made = Preprocessor.from_moments(stroke, moments_of(rows, stroke))
    other = Preprocessor.from_moments(stroke, moments_of(rows[1:], stroke))
    assert len({Preprocessor.public(stroke).version, made.version, other.version}) == 3


@pytest.mark.parametrize(
    "change",
    [
        {"age": lambda v: v.round().astype("int64")},
        {"age": lambda v: v.round().astype("Int32")},
        {"bmi": lambda v: v.astype("Float64")},
        {"bmi": lambda v: v.astype(object).where(v.notna(), None)},
        {"hypertension": lambda v: v.astype(bool)},
        {"hypertension": lambda v: v.astype("float32")},
        {"gender": lambda v: v.astype("category")},
        {"gender": lambda v: v.astype("string")},
    ],
    ids=lambda change: next(iter(change)),
)
def test_any_numeric_or_text_type_gives_the_same_features(
    stroke: CohortSpec, rows: pd.DataFrame, change: dict[str, Any]
) -> None:
    base = rows.assign(age=rows["age"].round())
    changed = base.assign(**{name: cast(base[name]) for name, cast in change.items()})
    preprocessor = Preprocessor.public(stroke)
    np.testing.assert_array_equal(preprocessor.transform(changed), preprocessor.transform(base))


def test_order_of_columns_and_columns_of_others_do_not_matter(
    stroke: CohortSpec, rows: pd.DataFrame
) -> None:
    preprocessor = Preprocessor.public(stroke)
    mixed = rows[rows.columns[::-1]].assign(ward="7", stroke=1)
    np.testing.assert_array_equal(preprocessor.transform(mixed), preprocessor.transform(rows))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("gender", "canary-4711", "'gender' has an unknown category in 1 rows.*Male, Female"),
        ("gender", None, "'gender' is empty in 1 rows"),
        ("age", "canary-4711", "'age' is not a number in 1 rows"),
        ("age", np.nan, "'age' is empty in 1 rows"),
        ("age", np.inf, "'age' is not a number in 1 rows"),
        ("bmi", "canary-4711", "'bmi' is not a number in 1 rows"),
        ("hypertension", 4711, "'hypertension' is neither 0 nor 1 in 1 rows"),
        ("hypertension", np.nan, "'hypertension' is empty in 1 rows"),
    ],
)
def test_a_bad_row_is_refused_without_its_value(
    stroke: CohortSpec, rows: pd.DataFrame, column: str, value: object, message: str
) -> None:
    bad = rows.copy()
    bad[column] = bad[column].astype(object)
    bad.loc[2, column] = value
    with pytest.raises(FeatureError, match=message) as caught:
        Preprocessor.public(stroke).transform(bad)
    assert "4711" not in str(caught.value)


def test_a_missing_column_is_named(stroke: CohortSpec, rows: pd.DataFrame) -> None:
    with pytest.raises(FeatureError, match="'age' is missing"):
        Preprocessor.public(stroke).transform(rows.drop(columns="age"))


def test_derived_features() -> None:
    scale = {"low": 0, "high": 100, "center": 0, "scale": 10}
    number = {"kind": "number", "range": [0, 100], "public": scale, "bins": [0, 50, 101]}
    spec = CohortSpec.model_validate(
        {
            "name": "small",
            "title": "A small cohort",
            "id_column": "id",
            "label": {"column": "ill", "prevalence": 0.1},
            "columns": [{**number, "name": "a"}, {**number, "name": "b"}],
            "groups": {"all": ["a", "b"]},
            "age_column": "a",
            "derived": [
                {"kind": "bins", "name": "a_bin", "of": "a", "edges": [0, 10, 20]},
                {"kind": "product", "name": "ab", "of": ["a", "b"]},
                {"kind": "ratio", "name": "a_by_b", "of": ["a", "b"], "scale": 2},
            ],
        }
    )
    preprocessor = Preprocessor.public(spec)
    frame = pd.DataFrame({"a": [5.0, 10.0, 20.0], "b": [10.0, 0.0, 5.0]})

    found = pd.DataFrame(preprocessor.transform(frame), columns=preprocessor.feature_names)

    assert list(found) == ["a", "b", "a_bin[0,10)", "a_bin[10,20)", "ab", "a_by_b"]
    assert found["a_bin[0,10)"].tolist() == [1, 0, 0]
    assert found["a_bin[10,20)"].tolist() == [0, 1, 0]
    np.testing.assert_allclose(found["ab"], [0.5, 0, 1])
    # No ratio to a zero exists.
    np.testing.assert_allclose(found["a_by_b"], [0.25, 0, 2])


def test_every_feature_is_in_the_group_of_its_column(stroke: CohortSpec) -> None:
    preprocessor = Preprocessor.public(stroke)
    names = preprocessor.feature_names

    found = {
        group: [names[i].partition("=")[0] for i in columns]
        for group, columns in preprocessor.feature_groups.items()
    }

    assert {group: sorted(set(of)) for group, of in found.items()} == {
        "demographics": sorted(stroke.groups["demographics"]),
        "medical_history": sorted(stroke.groups["medical_history"]),
        "lifestyle": ["smoking_status"],
        "clinical": ["avg_glucose_level", "bmi", "bmi_missing"],
    }
    indexes = [i for columns in preprocessor.feature_groups.values() for i in columns]
    assert sorted(indexes) == list(range(len(names)))
    read = Preprocessor.model_validate_json(preprocessor.model_dump_json())
    assert list(read.feature_groups.items()) == list(preprocessor.feature_groups.items())


def test_a_derived_feature_belongs_where_its_first_column_does() -> None:
    scale = {"low": 0, "high": 100, "center": 0, "scale": 10}
    number = {"kind": "number", "range": [0, 100], "public": scale, "bins": [0, 50, 101]}
    category = {"kind": "category", "reference": "x"}
    spec = CohortSpec.model_validate(
        {
            "name": "small",
            "title": "A small cohort",
            "id_column": "id",
            "label": {"column": "ill", "prevalence": 0.1},
            "columns": [
                {**number, "name": "a"},
                {**number, "name": "b"},
                {**category, "name": "ward", "categories": ["x", "y"], "nullable": True},
                {**category, "name": "site", "categories": ["x", "y"], "ignored": ["y"]},
            ],
            # Of the site no feature is left, as its categories are all coded like the reference.
            "groups": {"where": ["site"], "place": ["ward"], "second": ["b"], "first": ["a"]},
            "age_column": "a",
            "derived": [
                {"kind": "bins", "name": "b_bin", "of": "b", "edges": [0, 10, 20]},
                {"kind": "ratio", "name": "b_by_a", "of": ["b", "a"]},
                {"kind": "product", "name": "y_times_a", "of": ["ward=y", "a"]},
                {"kind": "product", "name": "twice", "of": ["b_by_a", "a"]},
                {"kind": "missing", "name": "no_ward", "of": "ward"},
            ],
        }
    )
    preprocessor = Preprocessor.public(spec)
    names = preprocessor.feature_names

    found = {g: [names[i] for i in of] for g, of in preprocessor.feature_groups.items()}

    assert list(found) == ["first", "second", "place"]
    assert found == {
        "first": ["a"],
        "second": ["b", "b_bin[0,10)", "b_bin[10,20)", "b_by_a", "twice"],
        "place": ["ward=y", "y_times_a", "no_ward"],
    }

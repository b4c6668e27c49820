import numpy as np
import pandas as pd
import pytest
from scipy.stats import kstest, truncnorm
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fl_assets.cohorts.contract import check_rows
from fl_assets.cohorts.reader import read_rows
from fl_assets.cohorts.spec import CohortSpec
from fl_assets.cohorts.split_report import report_split
from fl_assets.cohorts.synthetic import NoRecipeError, generate

NUMBERS = ["age", "hypertension", "heart_disease", "avg_glucose_level", "bmi"]


def design(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series]:
    """One-hot features with a missing indicator, and the label."""
    numbers = frame[NUMBERS].apply(pd.to_numeric, errors="coerce")
    numbers["bmi_missing"] = numbers["bmi"].isna().astype(float)
    numbers["bmi"] = numbers["bmi"].fillna(28)
    categories = pd.get_dummies(frame.drop(columns=["id", "stroke", *NUMBERS]), dtype=float)
    return numbers.join(categories), frame["stroke"].astype(int)


def auroc(features: pd.DataFrame, label: pd.Series) -> float:
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    return float(cross_val_score(model, features, label, cv=folds, scoring="roc_auc").mean())


def rate(frame: pd.DataFrame, column: str, value: str = "1") -> float:
    return float((frame[column] == value).mean())


@pytest.mark.parametrize("rows", [0, 1, 5110])
def test_every_row_passes_the_contract(stroke: CohortSpec, rows: int) -> None:
    frame = generate(stroke, rows=rows, seed=3)
    assert list(frame.columns) == stroke.file_columns
    assert len(frame) == rows
    if rows:
        raw = read_rows(frame.to_csv(index=False).encode(), stroke, "synthetic.csv")
        assert check_rows(raw, stroke).counts.accepted == rows


def test_values_are_spelt_as_in_the_file(stroke: CohortSpec) -> None:
    frame = generate(stroke)
    assert frame.map(lambda value: type(value) is str).all(axis=None)
    assert frame["id"].is_unique
    assert frame["id"].str.fullmatch(r"[1-9]\d*").all()
    assert frame["age"].str.fullmatch(r"\d\d?|[01]\.\d?[1-9]").all()
    assert frame["avg_glucose_level"].str.fullmatch(r"\d{2,3}(\.\d?[1-9])?").all()
    assert frame["bmi"].str.fullmatch(r"\d\d(\.[1-9])?|N/A").all()
    for flag in ("hypertension", "heart_disease", "stroke"):
        assert set(frame[flag]) == {"0", "1"}


def test_same_seed_same_rows_and_other_seed_others(stroke: CohortSpec) -> None:
    first = generate(stroke, rows=500, seed=7)
    pd.testing.assert_frame_equal(first, generate(stroke, rows=500, seed=7))
    other = generate(stroke, rows=500, seed=8)
    for column in ("id", "age", "bmi", "smoking_status"):
        assert (first[column] != other[column]).any()


def test_label_and_flags_have_the_published_rates(many: pd.DataFrame, stroke: CohortSpec) -> None:
    # Five standard errors of a rate near 0.05 at 100,000 rows are 0.0035.
    assert rate(many, "stroke") == pytest.approx(stroke.label.prevalence, abs=0.0035)
    assert rate(many, "heart_disease") == pytest.approx(0.054, abs=0.006)
    assert rate(many, "hypertension") == pytest.approx(0.097, abs=0.008)
    age = pd.to_numeric(many["age"])
    assert rate(many[age < 15], "hypertension") < 0.001
    assert rate(many[(age >= 50) & (age < 60)], "hypertension") == pytest.approx(0.14, abs=0.02)
    assert rate(many[age >= 70], "hypertension") == pytest.approx(0.25, abs=0.03)
    assert rate(many[age < 40], "heart_disease") < 0.003
    assert 0.18 < rate(many[age >= 70], "heart_disease") < 0.24


def test_numbers_follow_the_public_marginals(many: pd.DataFrame) -> None:
    age, glucose, bmi = (
        pd.to_numeric(many[name], errors="coerce") for name in ("age", "avg_glucose_level", "bmi")
    )
    assert (age.min(), age.max()) == (0.08, 82)
    assert age.mean() == pytest.approx(43.2, abs=0.6)
    assert age.std() == pytest.approx(22.6, abs=0.5)
    assert glucose.min() >= 55
    assert glucose.max() <= 272
    assert (glucose == 55).mean() < 1e-3  # truncated, not piled up at the bound
    assert glucose[glucose < 150].mean() == pytest.approx(90, abs=2)
    assert glucose[glucose > 150].mean() == pytest.approx(204, abs=4)
    assert (glucose > 150)[age < 20].mean() < 0.06
    assert (glucose > 150)[age >= 70].mean() == pytest.approx(0.29, abs=0.03)
    assert bmi[age < 10].mean() == pytest.approx(19, abs=0.5)
    assert bmi[(age >= 40) & (age < 60)].mean() == pytest.approx(31.5, abs=0.5)
    assert bmi[age >= 80].mean() == pytest.approx(28, abs=0.5)


def test_categories_follow_the_public_marginals(many: pd.DataFrame) -> None:
    age = pd.to_numeric(many["age"])
    assert rate(many, "gender", "Male") == pytest.approx(0.414, abs=0.01)
    assert 0 < rate(many, "gender", "Other") < 1e-3
    assert rate(many, "smoking_status", "Unknown") == pytest.approx(1544 / 5110, abs=0.01)
    assert rate(many[age < 5], "smoking_status", "Unknown") > 0.98
    assert rate(many[age > 25], "smoking_status", "Unknown") == pytest.approx(0.2, abs=0.02)
    assert rate(many, "Residence_type", "Urban") == pytest.approx(0.508, abs=0.01)
    assert rate(many[age < 16], "ever_married", "Yes") < 0.001
    assert rate(many[age >= 45], "ever_married", "Yes") > 0.88
    assert rate(many[age < 8], "work_type", "children") > 0.98
    assert rate(many, "work_type", "Private") == pytest.approx(0.572, abs=0.015)
    assert rate(many, "work_type", "Never_worked") == pytest.approx(22 / 5110, abs=0.001)


def test_bmi_is_missing_more_often_with_a_stroke(many: pd.DataFrame) -> None:
    missing = many["bmi"] == "N/A"
    assert missing[many["stroke"] == "1"].mean() == pytest.approx(40 / 249, abs=0.025)
    assert missing[many["stroke"] == "0"].mean() == pytest.approx(161 / 4861, abs=0.003)


def test_risk_about_doubles_per_decade_after_55(many: pd.DataFrame) -> None:
    age = pd.to_numeric(many["age"])
    rates = [rate(many[(age >= low) & (age < low + 10)], "stroke") for low in (52, 62, 72)]
    assert 1.5 < rates[1] / rates[0] < 2.3
    assert 1.3 < rates[2] / rates[1] < 2.3


def test_signal_of_the_population(many: pd.DataFrame) -> None:
    features, label = design(many)
    every = auroc(features, label)
    assert every == pytest.approx(0.845, abs=0.012)
    assert every - auroc(features[["age"]], label) > 0.02


def test_signal_at_the_size_of_the_public_file(stroke: CohortSpec) -> None:
    scores = []
    for seed in range(5):
        features, label = design(generate(stroke, seed=seed))
        scores.append((auroc(features, label), auroc(features[["age"]], label)))
    every, age_only = np.array(scores).T
    assert ((every > 0.80) & (every < 0.87)).all()
    assert (every - age_only).mean() > 0.01


@pytest.mark.real_data
def test_every_column_resembles_the_public_file(
    stroke: CohortSpec, real_stroke: pd.DataFrame, synthetic_stroke: pd.DataFrame
) -> None:
    report = report_split(real_stroke, {"synthetic": synthetic_stroke}, stroke)
    assert max(report.hospitals[0].distance.values()) < 0.06


def test_another_cohort_needs_yaml_only(asthma: CohortSpec) -> None:
    """The distributions of asthma.yaml, against their closed forms and an independent fit."""
    frame = generate(asthma, rows=200_000, seed=2)
    assert list(frame.columns) == ["patient", "years", "allergy", "season", "peak_flow", "attack"]
    years = pd.to_numeric(frame["years"])
    shares = years.value_counts(normalize=True).sort_index()
    assert list(shares.index) == [0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 10, 11, 12]
    np.testing.assert_allclose(shares, [0.25 / 11] * 11 + [0.25] * 3, atol=0.005)

    allergy = frame["allergy"] == "1"
    np.testing.assert_allclose(allergy[years == 11].mean(), 0.5, atol=0.01)
    np.testing.assert_allclose(allergy[years <= 1].mean(), 1 / (1 + np.e), atol=0.01)
    weights = np.exp([0, 0.5, 0.5])  # winter: -0.5 + 1 with an allergy
    seasons = frame["season"][allergy].value_counts(normalize=True)
    np.testing.assert_allclose(
        seasons[["spring", "autumn", "winter"]], weights / weights.sum(), atol=0.01
    )

    assert (frame["attack"] == "1").mean() == pytest.approx(0.2, abs=0.005)


def test_numbers_are_truncated_normals_with_a_shifting_mean(asthma: CohortSpec) -> None:
    assert asthma.synthetic is not None
    recipe = asthma.synthetic.model_copy(update={"missing": ()})
    frame = generate(asthma.model_copy(update={"synthetic": recipe}), rows=20_000, seed=4)
    flow = pd.to_numeric(frame["peak_flow"])
    for flag, mean in (("0", 400), ("1", 500)):
        expected = truncnorm((300 - mean) / 80, (600 - mean) / 80, loc=mean, scale=80)
        assert kstest(flow[frame["allergy"] == flag], expected.cdf).pvalue > 0.01


def test_label_and_missingness_have_the_declared_effects(asthma: CohortSpec) -> None:
    frame = generate(asthma, rows=200_000, seed=5)
    attack, flow = frame["attack"] == "1", pd.to_numeric(frame["peak_flow"], errors="coerce")
    winter = (frame["season"] == "winter").astype(float)
    missing = flow.isna()
    fit = LogisticRegression(C=np.inf).fit(np.column_stack([attack, winter]), missing)
    np.testing.assert_allclose(fit.coef_[0], [1.5, 0.5], atol=0.06)
    np.testing.assert_allclose(fit.intercept_, -2, atol=0.05)

    # Missingness depends on the label, which shifts the intercept and, through winter, its effect.
    features = pd.DataFrame(
        {
            "years": pd.to_numeric(frame["years"]) / 10,
            "allergy": (frame["allergy"] == "1").astype(float),
            "flow": flow / 200,
        }
    )[~missing]
    features["winter"] = winter
    fit = LogisticRegression(C=np.inf).fit(features, attack[~missing])
    np.testing.assert_allclose(fit.coef_[0][:3], [1, 0.7, -1], atol=0.06)


def test_a_cohort_without_recipe_says_so(stroke: CohortSpec) -> None:
    with pytest.raises(NoRecipeError, match=r"stroke.*synthetic section"):
        generate(stroke.model_copy(update={"synthetic": None}))

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import hypergeom

from fl_assets.cohorts.spec import CohortSpec
from fl_assets.cohorts.split import Deal, SplitError, apportion, deal, split_frame
from fl_assets.consortium import Consortium

SPLITS = ["demographic", "label_skew", "feature_skew", "quantity_skew", "dirichlet"]
COVARIATE_SPLITS = SPLITS[:-1]


def consortium(split: str, *shares: float, **simulation: Any) -> Consortium:
    hospitals = [{"name": f"h{i}", "share": share} for i, share in enumerate(shares)]
    return Consortium.model_validate(
        {
            "name": "test",
            "cohort": "stroke",
            "split": {"salt": "test-salt"},
            "hospitals": hospitals,
            "simulation": {"split": split, **simulation},
        }
    )


def three(split: str, **simulation: Any) -> Consortium:
    return consortium(split, 1700, 1400, 2010, **simulation)


def sizes(dealt: Deal) -> list[int]:
    return [share.rows for share in dealt.report.hospitals]


def positives(dealt: Deal) -> list[int]:
    return [share.positives for share in dealt.report.hospitals]


def mean_distance(dealt: Deal) -> float:
    return float(np.mean([list(share.distance.values()) for share in dealt.report.hospitals]))


@pytest.mark.parametrize("split", SPLITS)
def test_every_row_is_dealt_once(
    split: str, stroke: CohortSpec, synthetic_stroke: pd.DataFrame
) -> None:
    dealt = deal(synthetic_stroke, stroke, three(split))
    assert dealt.hospitals == ("h0", "h1", "h2")
    assert dealt.report.problems == []
    assert dealt.assignment.shape == (5110,)
    parts = split_frame(synthetic_stroke, dealt.assignment, list(dealt.hospitals))
    assert sorted(pd.concat(parts.values())["id"]) == sorted(synthetic_stroke["id"])
    assert [len(part) for part in parts.values()] == sizes(dealt)


@pytest.mark.parametrize("split", SPLITS)
def test_order_of_the_rows_does_not_matter(
    split: str, stroke: CohortSpec, synthetic_stroke: pd.DataFrame
) -> None:
    shuffled = synthetic_stroke.sample(frac=1, random_state=1)
    here = deal(synthetic_stroke, stroke, three(split)).assignment
    there = deal(shuffled, stroke, three(split)).assignment
    expected = pd.Series(here, index=synthetic_stroke["id"])
    actual = pd.Series(there, index=shuffled["id"])
    pd.testing.assert_series_equal(actual.sort_index(), expected.sort_index())


@pytest.mark.parametrize("split", SPLITS)
def test_the_seed_decides(split: str, stroke: CohortSpec, synthetic_stroke: pd.DataFrame) -> None:
    first, again, other = (
        deal(synthetic_stroke, stroke, three(split, seed=seed)).assignment for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("split", COVARIATE_SPLITS)
def test_the_label_is_not_looked_at(
    split: str, stroke: CohortSpec, synthetic_stroke: pd.DataFrame
) -> None:
    flipped = synthetic_stroke.assign(stroke=1 - synthetic_stroke["stroke"])
    np.testing.assert_array_equal(
        deal(synthetic_stroke, stroke, three(split)).assignment,
        deal(flipped, stroke, three(split)).assignment,
    )


@pytest.mark.parametrize("split", ["demographic", "feature_skew", "dirichlet"])
@pytest.mark.parametrize("shares", [(1,), (3, 1), (1, 1, 1, 1, 1, 1, 1), (0.5, 9, 2, 4)])
def test_sizes_follow_the_shares_of_any_number_of_hospitals(
    split: str, shares: tuple[float, ...], stroke: CohortSpec, synthetic_stroke: pd.DataFrame
) -> None:
    frame = synthetic_stroke.iloc[:1003]
    dealt = deal(frame, stroke, consortium(split, *shares))
    assert dealt.report.problems == []
    np.testing.assert_allclose(sizes(dealt), 1003 * np.array(shares) / sum(shares), atol=1)


@pytest.mark.parametrize("split", ["demographic", "label_skew", "feature_skew"])
def test_first_hospital_is_old_and_second_young(
    split: str, stroke: CohortSpec, synthetic_stroke: pd.DataFrame
) -> None:
    report = deal(synthetic_stroke, stroke, three(split)).report
    old, young, middle = (share.mean_age or 0 for share in report.hospitals)
    assert old > middle + 5 > young + 15


def test_demographic_prefers_risk_flags(stroke: CohortSpec, synthetic_stroke: pd.DataFrame) -> None:
    dealt = deal(synthetic_stroke, stroke, three("demographic"))
    rates = synthetic_stroke.groupby(dealt.assignment)["hypertension"].mean()
    assert rates[0] > rates[2] > rates[1]
    # Beyond what age alone brings.
    blind = deal(synthetic_stroke, stroke.model_copy(update={"risk_flags": ()}), three(SPLITS[0]))
    assert rates[0] > 1.15 * synthetic_stroke.groupby(blind.assignment)["hypertension"].mean()[0]


def test_feature_skew_separates_more(stroke: CohortSpec, synthetic_stroke: pd.DataFrame) -> None:
    demographic, feature = (
        deal(synthetic_stroke, stroke, three(split)) for split in ("demographic", "feature_skew")
    )
    assert mean_distance(feature) > 1.8 * mean_distance(demographic)


def test_quantity_skew_deals_alike_patients_in_unequal_numbers(
    stroke: CohortSpec, synthetic_stroke: pd.DataFrame
) -> None:
    dealt = deal(synthetic_stroke, stroke, consortium("quantity_skew", 1, 1, 5, 1))
    expected = np.arange(1, 5) ** -1.5
    np.testing.assert_allclose(sizes(dealt), 5110 * expected / expected.sum(), atol=1)
    assert mean_distance(dealt) < 0.04


def test_dirichlet_concentration(stroke: CohortSpec, synthetic_stroke: pd.DataFrame) -> None:
    def spread(alpha: float) -> float:
        rates = []
        for seed in range(5):
            dealt = deal(synthetic_stroke, stroke, three("dirichlet", alpha=alpha, seed=seed))
            rates.append(np.std(np.divide(positives(dealt), sizes(dealt))))
        return float(np.mean(rates))

    assert spread(0.2) > 3 * spread(10) > 9 * spread(1e4)
    assert spread(1e4) < 0.002


def test_dirichlet_moves_what_a_hospital_cannot_hold(
    stroke: CohortSpec, synthetic_stroke: pd.DataFrame
) -> None:
    mostly = synthetic_stroke.assign(stroke=(synthetic_stroke["age"] > 10).astype("int8"))
    dealt = deal(mostly, stroke, three("dirichlet", alpha=0.1))
    assert sizes(dealt) == [1700, 1400, 2010]
    assert sum(positives(dealt)) == mostly["stroke"].sum()
    assert len(dealt.notes) == 1
    assert "was full" in dealt.notes[0]


def test_label_skew_needs_three_hospitals(
    stroke: CohortSpec, synthetic_stroke: pd.DataFrame
) -> None:
    with pytest.raises(SplitError, match=r"exactly 3 hospitals and consortium\.yaml has 2"):
        deal(synthetic_stroke, stroke, consortium("label_skew", 1, 1))


def test_nothing_to_deal(stroke: CohortSpec, synthetic_stroke: pd.DataFrame) -> None:
    with pytest.raises(SplitError, match="no rows"):
        deal(synthetic_stroke.iloc[:0], stroke, three("demographic"))


def test_fewer_rows_than_hospitals_is_a_problem(
    stroke: CohortSpec, synthetic_stroke: pd.DataFrame
) -> None:
    dealt = deal(synthetic_stroke.iloc[:2], stroke, consortium("demographic", 1, 1, 1))
    assert dealt.report.problems == ["no rows for h2: use more rows or fewer hospitals"]


@pytest.mark.parametrize("split", SPLITS)
def test_another_cohort(split: str, asthma: CohortSpec) -> None:
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "patient": [f"p{i}" for i in range(300)],
            "years": random.uniform(0, 100, 300),
            "allergy": random.integers(0, 2, 300),
            "season": random.choice(["spring", "autumn"], 300),
            "peak_flow": np.where(random.random(300) < 0.2, np.nan, 450.0),
            "attack": random.integers(0, 2, 300),
        }
    )
    assert deal(frame, asthma, consortium(split, 1, 1, 1)).report.problems == []


@given(
    st.integers(0, 10_000),
    st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=20),
)
def test_apportion_sums_and_stays_within_one(total: int, weights: list[float]) -> None:
    parts = apportion(total, np.array(weights))
    assert parts.sum() == total
    assert (np.abs(parts - total * np.array(weights) / sum(weights)) < 1 + 1e-6).all()


def test_apportion_of_the_public_file() -> None:
    assert apportion(5110, np.array([1700.0, 1400.0, 2010.0])).tolist() == [1700, 1400, 2010]


@pytest.mark.real_data
class TestPublicFile:
    @pytest.mark.parametrize("split", SPLITS)
    def test_every_row_is_dealt_once(
        self, split: str, stroke: CohortSpec, real_stroke: pd.DataFrame
    ) -> None:
        assert deal(real_stroke, stroke, three(split)).report.problems == []

    def test_demographic(self, stroke: CohortSpec, real_stroke: pd.DataFrame) -> None:
        dealt = deal(real_stroke, stroke, three("demographic"))
        assert sizes(dealt) == [1700, 1400, 2010]
        assert dealt.notes == []
        rates = [share.label_rate for share in dealt.report.hospitals]
        assert rates == pytest.approx([0.082, 0.018, 0.042], abs=0.002)

    def test_demographic_hardly_depends_on_the_seed(
        self, stroke: CohortSpec, real_stroke: pd.DataFrame
    ) -> None:
        counts = [
            positives(deal(real_stroke, stroke, three("demographic", seed=seed)))
            for seed in range(10)
        ]
        rates = np.mean(counts, axis=0) / [1700, 1400, 2010]
        np.testing.assert_allclose(rates, [0.08, 0.019, 0.042], atol=0.005)

    def test_label_skew_takes_what_its_pool_has(
        self, stroke: CohortSpec, real_stroke: pd.DataFrame
    ) -> None:
        dealt = deal(real_stroke, stroke, three("label_skew"))
        assert sizes(dealt) == [1520, 1400, 2190]
        assert len(dealt.notes) == 1
        assert dealt.notes[0].startswith("h0 gets 1520 rows instead of 1700")
        old, young, rest = positives(dealt)
        assert old == 191
        assert young + rest == 249 - 191
        # The young pool has 19 strokes among 2,814 patients.
        assert hypergeom(2814, 19, 1400).cdf(young) == pytest.approx(0.5, abs=0.49)
        shares = split_frame(real_stroke, dealt.assignment, list(dealt.hospitals))
        assert shares["h1"]["age"].max() < 50
        assert shares["h2"]["age"].max() <= 60
        assert shares["h2"]["hypertension"].sum() == 0

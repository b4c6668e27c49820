from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn.preprocessing import StandardScaler

from fl_assets.cohorts.spec import CohortSpec
from fl_assets.consortium import Consortium, PrivacyBudget
from fl_assets.learning.features import Preprocessor
from fl_assets.privacy.ledger import BudgetExceededError, Ledger
from fl_assets.privacy.ledger_entries import Charge
from fl_assets.privacy.noise import SeededNoise
from fl_assets.site import rows
from fl_assets.site.egress import EgressLog
from fl_assets.site.noised_release import NoisedRelease
from fl_assets.site.partitions import load_manifest, load_part
from fl_assets.site.profile import (
    HospitalProfile,
    build_profile,
    describe,
    exact_sums,
    load_profile,
    noised_profile,
    pool_moments,
    suppress,
)
from fl_assets.site.profile_sums import sensitivity
from fl_assets.storage import FolderStore, ObjectNotFoundError
from fl_assets_tests.site.conftest import put_parts, store_with_key


@pytest.mark.parametrize(
    ("cells", "kept"),
    [
        ({}, {}),
        ({"a": 5, "b": 100}, {"a": 5, "b": 100}),
        ({"a": 0, "b": 100}, {"a": 0, "b": 100}),
        # The total is known, so one hidden cell needs company: the smallest of the others.
        ({"a": 4, "b": 9, "c": 100, "d": 0}, {"a": None, "b": None, "c": 100, "d": 0}),
        ({"a": 4, "b": 1, "c": 100}, {"a": None, "b": None, "c": 100}),
        # Nobody else is there: the total is the cell.
        ({"a": 3, "b": 0}, {"a": None, "b": 0}),
        ({"a": 3}, {"a": None}),
    ],
)
def test_suppression(cells: dict[str, int], kept: dict[str, int | None]) -> None:
    assert suppress(cells, 5) == kept


@given(
    st.dictionaries(st.text(max_size=3), st.integers(0, 30), max_size=8),
    st.integers(1, 12),
)
def test_no_cell_below_the_floor_is_shown_or_follows(cells: dict[str, int], minimum: int) -> None:
    kept = suppress(cells, minimum)
    assert list(kept) == list(cells)
    hidden = [name for name, count in kept.items() if count is None]
    assert all(cells[name] > 0 for name in hidden)
    assert {n: c for n, c in kept.items() if c is not None} == {
        name: count for name, count in cells.items() if name not in hidden
    }
    assert all(count == 0 or count >= minimum for count in kept.values() if count is not None)
    if len(hidden) == 1:
        assert sum(map(bool, cells.values())) == 1
    # As little is hidden as that takes.
    assert len(hidden) <= max(2, sum(0 < count < minimum for count in cells.values()))
    if hidden and all(cells[name] >= minimum for name in hidden):
        pytest.fail("nothing needed hiding")


def shown(profile: HospitalProfile) -> list[int]:
    tables = [
        profile.label,
        *profile.missing.values(),
        *profile.histograms.values(),
        *profile.counts.values(),
    ]
    return [count for table in tables for count in table.values() if count is not None]


def test_a_profile_tells_the_counts(stroke: CohortSpec, patients: pd.DataFrame) -> None:
    profile = describe(patients, stroke, 1, "v")
    assert profile.rows == 2000
    assert profile.label == {"0": 2000 - patients["stroke"].sum(), "1": patients["stroke"].sum()}
    assert profile.missing == {
        "bmi": {"missing": patients["bmi"].isna().sum(), "present": patients["bmi"].count()}
    }
    for column, cells in profile.counts.items():
        counted = patients[column].astype(str).value_counts().to_dict()
        assert {name: n for name, n in cells.items() if n} == counted
    assert list(profile.counts["gender"]) == ["Male", "Female", "Other"]
    for column in stroke.numbers:
        # By another route: every value has a bin, the last bin its upper edge.
        bins = pd.cut(patients[column.name], list(column.bins), right=False)
        assert list(profile.histograms[column.name].values()) == (
            bins.value_counts(sort=False).tolist()
        )
        moments = profile.moments[column.name]
        assert moments is not None
        assert moments.count == patients[column.name].count()
        assert moments.mean == pytest.approx(patients[column.name].mean(), abs=1e-9)
        assert moments.deviation == pytest.approx(patients[column.name].std(ddof=0), abs=1e-9)


def test_every_allowed_value_has_a_bin(stroke: CohortSpec, patients: pd.DataFrame) -> None:
    for column in stroke.numbers:
        edges = sorted({*column.range, *(b for b in column.bins if b <= column.range[1])})
        rows = patients.iloc[: len(edges)].assign(**{column.name: edges})
        cells = describe(rows, stroke, 1, "v").histograms[column.name]
        assert sum(count or 0 for count in cells.values()) == len(edges)


def test_the_upper_edge_is_in_the_last_bin(asthma: CohortSpec) -> None:
    years = asthma.numbers[0].model_copy(update={"bins": (0.0, 50.0, 100.0)})
    spec = asthma.model_copy(update={"columns": (years, *asthma.columns[1:])})
    rows = asthma_rows([(100.0, 1, "winter", 400.0)])
    assert describe(rows, spec, 1, "v").histograms["years"] == {"0 to 50": 0, "50 to 100": 1}


@pytest.fixture(scope="session")
def asthma() -> CohortSpec:
    from fl_assets.cohorts.spec import load_cohort

    return load_cohort("asthma.yaml", Path(__file__).parents[1] / "cohorts")


Row = tuple[float, int, str, float | None]


def asthma_rows(rows: list[Row]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["years", "allergy", "season", "peak_flow"])
    frame = frame.astype({"years": "float64", "peak_flow": "float64"})
    frame.insert(0, "patient", [str(i) for i in range(len(frame))])
    return frame.assign(attack=(frame["allergy"] == 1).astype("int8"))


ROWS = st.lists(
    st.tuples(
        st.sampled_from([1.0, 30.0, 60.0, 99.0]),
        st.integers(0, 1),
        st.sampled_from(["spring", "autumn", "winter"]),
        st.sampled_from([None, 100.0, 400.0, 500.0]),
    ),
    max_size=60,
)


@given(rows=ROWS, minimum=st.integers(1, 8))
def test_nothing_below_the_floor_can_be_had_by_subtraction(
    asthma: CohortSpec, rows: list[Row], minimum: int
) -> None:
    profile = describe(asthma_rows(rows), asthma, minimum, "v")
    assert all(count == 0 or count >= minimum for count in shown(profile))
    for name, moments in profile.moments.items():
        present = sum(row[0 if name == "years" else 3] is not None for row in rows)
        absent = len(rows) - present
        if moments is not None:
            assert moments.count == present >= minimum
            assert not 0 < absent < minimum
        elif present >= minimum:
            assert 0 < absent < minimum
        cells = list(profile.histograms[name].values())
        if 0 < absent < minimum:
            # A hidden number of missing values must not be what the rows lack to the histogram.
            assert None in cells or not present
        elif cells.count(None) == 1:
            # Where the sum is known a single hidden cell follows; alone, it is the sum.
            assert set(cells) == {None, 0}
    for cells in (*profile.counts.values(), profile.label):
        assert list(cells.values()).count(None) != 1 or set(cells.values()) == {None, 0}


def test_moments_below_the_floor(stroke: CohortSpec, patients: pd.DataFrame) -> None:
    four = describe(patients[patients["bmi"].notna()].iloc[:4], stroke, 5, "v")
    assert set(four.moments.values()) == {None}
    five = describe(patients[patients["bmi"].notna()].iloc[:5], stroke, 5, "v")
    assert None not in five.moments.values()
    nobody = describe(patients.iloc[:0], stroke, 5, "v")
    assert set(nobody.moments.values()) == {None}
    assert set(shown(nobody)) == {0}


def test_a_few_missing_values_hide_the_moments_that_would_tell_them(
    stroke: CohortSpec, patients: pd.DataFrame
) -> None:
    complete = patients[patients["bmi"].notna()].iloc[:500]
    for missing, told in ((0, True), (1, False), (4, False), (5, True)):
        rows = complete.copy()
        rows.iloc[:missing, rows.columns.get_loc("bmi")] = np.nan
        profile = describe(rows, stroke, 5, "v")
        assert (profile.moments["bmi"] is not None) == told
        assert (profile.missing["bmi"]["missing"] is not None) == told
        assert profile.moments["age"] is not None


def hospitals(rows: pd.DataFrame, tiny: int, small: int) -> list[pd.DataFrame]:
    """Rows as three hospitals of very different sizes, the tiny one with complete rows only."""
    first = rows[rows["bmi"].notna()].iloc[:tiny]
    rest = rows.drop(first.index)
    return [first, rest.iloc[:small], rest.iloc[small:]]


def check_against_scikit_learn(frames: list[pd.DataFrame], spec: CohortSpec) -> None:
    profiles = [describe(frame, spec, 5, "v") for frame in frames]
    assert all(None not in profile.moments.values() for profile in profiles)
    built = Preprocessor.from_moments(spec, pool_moments(profiles, spec))
    names = [column.name for column in spec.numbers]
    numbers = pd.concat(frames)[names].to_numpy()
    fitted = StandardScaler().fit(numbers)
    for place, name in enumerate(names):
        assert built.scalings[name].center == pytest.approx(fitted.mean_[place], abs=1e-9)
        assert built.scalings[name].scale == pytest.approx(fitted.scale_[place], abs=1e-9)
    # And so the features, to the precision of float32; a missing value is the mean.
    features = built.transform(pd.concat(frames))
    columns = [built.feature_names.index(name) for name in names]
    np.testing.assert_allclose(
        features[:, columns], np.nan_to_num(fitted.transform(numbers)), atol=1e-6
    )


def test_pooled_moments_equal_a_fit_on_pooled_rows(
    stroke: CohortSpec, patients: pd.DataFrame
) -> None:
    check_against_scikit_learn(hospitals(patients, 7, 300), stroke)


@pytest.mark.real_data
def test_pooled_moments_equal_a_fit_on_pooled_real_rows(
    stroke: CohortSpec, real_patients: pd.DataFrame
) -> None:
    by_age = real_patients.sort_values("age", kind="stable", ignore_index=True)
    check_against_scikit_learn(hospitals(by_age, 5, 400), stroke)


def test_a_hospital_that_releases_no_moments_is_left_out(
    stroke: CohortSpec, patients: pd.DataFrame
) -> None:
    tiny, large = patients.iloc[:4], patients.iloc[4:]
    pooled = pool_moments([describe(f, stroke, 5, "v") for f in (tiny, large)], stroke)
    alone = pool_moments([describe(large, stroke, 5, "v")], stroke)
    assert pooled == alone
    assert pool_moments([describe(tiny, stroke, 5, "v")], stroke) == dict.fromkeys(alone)


def test_a_profile_is_of_the_training_rows_and_logged(
    dealt: FolderStore, stroke: CohortSpec
) -> None:
    profile = build_profile(dealt, stroke, 5, "run-1")
    manifest = load_manifest(dealt)
    train = load_part(dealt, manifest, "train")
    assert profile == describe(train, stroke, 5, manifest.version)
    assert profile.rows == manifest.files["train"].rows < manifest.rows
    assert load_profile(dealt) == profile
    stored = dealt.get(f"profile/{profile.version}.json")
    assert stored == dealt.get("profile/manifest.json")
    (entry,) = EgressLog(dealt).entries()
    assert (entry.kind, entry.run, entry.size) == ("profile", "run-1", len(stored))
    assert entry.sha256 == hashlib.sha256(stored).hexdigest()


@pytest.mark.parametrize("epsilon", [None, 5.0])
def test_a_profile_is_added_up_in_bounded_memory(
    epsilon: float | None,
    tmp_path: Path,
    stroke: CohortSpec,
    patients: pd.DataFrame,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From small row groups it is the same but for rounding, and nothing is loaded whole."""
    found = []
    for size in (10_000, 130):
        monkeypatch.setattr(rows, "ROW_GROUP", size)
        monkeypatch.setattr(rows, "read_rows", None)
        store = store_with_key(tmp_path / str(size))
        put_parts(store, stroke, train=patients)
        terms = None if epsilon is None else noised(epsilon, seed=1)
        found.append(build_profile(store, stroke, 5, "run-1", terms))
    whole, pieces = found
    for name, moments in whole.moments.items():
        other = pieces.moments[name]
        assert moments is not None
        assert other is not None
        assert other.count == moments.count
        assert other.total == pytest.approx(moments.total, rel=1e-12)
        assert other.total_squares == pytest.approx(moments.total_squares, rel=1e-12)
    assert pieces.model_copy(update={"moments": whole.moments, "partitions": whole.partitions}) == (
        whole
    )


def test_the_same_rows_have_the_same_profile(dealt: FolderStore, stroke: CohortSpec) -> None:
    first = build_profile(dealt, stroke, 5, "run-1")
    again = build_profile(dealt, stroke, 5, "run-2")
    assert again == first
    assert build_profile(dealt, stroke, 100, "run-3").version != first.version
    # Told three times, written down three times.
    assert [entry.run for entry in EgressLog(dealt).entries()] == ["run-1", "run-2", "run-3"]


def test_no_profile_yet(store: FolderStore) -> None:
    with pytest.raises(ObjectNotFoundError, match="profile"):
        load_profile(store)


def noised(epsilon: float, seed: int | None = None, cap: float = 100.0) -> NoisedRelease:
    noise = None if seed is None else SeededNoise(seed)
    budget = PrivacyBudget(epsilon=cap, delta=1e-5)
    return NoisedRelease("hospital-a", budget, epsilon, budget.delta, noise)


def test_with_epsilon_a_profile_nears_the_exact_one(dealt: FolderStore, stroke: CohortSpec) -> None:
    train = load_part(dealt, load_manifest(dealt), "train")
    exact = describe(train, stroke, 1, load_manifest(dealt).version)
    found = build_profile(dealt, stroke, 5, "run-1", noised(100.0, seed=1))
    assert found.noised is not None
    assert (found.noised.epsilon, found.noised.delta) == (100.0, 1e-5)
    assert found.noised.deviation < 0.5
    assert (found.partitions, found.rows) == (exact.partitions, exact.rows)
    assert np.abs(np.subtract(shown(found), shown(exact))).max() <= 2
    for column in stroke.numbers:
        moments = found.moments[column.name]
        clipped = train[column.name].dropna().clip(column.public.low, column.public.high)
        assert moments is not None
        assert moments.count == pytest.approx(len(clipped), abs=2)
        assert moments.mean == pytest.approx(clipped.mean(), rel=0.01)
        assert moments.deviation == pytest.approx(clipped.std(ddof=0), rel=0.02)


def test_noise_is_in_every_count_and_as_large_as_said(
    dealt: FolderStore, stroke: CohortSpec
) -> None:
    manifest = load_manifest(dealt)
    train = load_part(dealt, manifest, "train")
    exact = exact_sums(train, stroke)
    errors = []
    for seed in range(40):
        terms = noised(1.0, seed)
        build_profile(dealt, stroke, 5, f"run-{seed}", terms)
        key = f"profile/{manifest.version}/{stroke.version}"
        errors.append(terms.sums(dealt, key, lambda: exact, 1.0, run="none", what="") - exact)
        for info in dealt.list("noised/"):
            dealt.delete(info.key)
    deviation = noised(1.0).told(sensitivity(stroke)).deviation
    assert deviation == pytest.approx(np.sqrt(17) * 3.73, rel=0.01)
    np.testing.assert_allclose(np.std(errors, axis=0), deviation, rtol=0.4)
    assert np.std(errors) == pytest.approx(deviation, rel=0.05)


def test_a_noised_profile_has_no_exact_count(dealt: FolderStore, stroke: CohortSpec) -> None:
    train = load_part(dealt, load_manifest(dealt), "train")
    exact = describe(train, stroke, 1, "v")
    found = build_profile(dealt, stroke, 5, "run-1", noised(0.5, seed=2))
    assert None not in shown(found)
    equal = np.equal(shown(found), shown(exact))
    # Noise of 30 people hits a count by chance only, and empty cells at zero.
    assert equal[np.array(shown(exact)) > 60].mean() < 0.2
    for column in stroke.numbers:
        told, true = found.moments[column.name], exact.moments[column.name]
        assert told is None or true is None or told.total != true.total
        assert told is None or true is None or told.total_squares != true.total_squares
    assert sum(count or 0 for count in found.label.values()) != found.rows


def test_a_noised_profile_is_released_once(dealt: FolderStore, stroke: CohortSpec) -> None:
    first = build_profile(dealt, stroke, 5, "run-1", noised(1.0))
    again = build_profile(dealt, stroke, 5, "run-2", noised(1.0))
    assert again == first == load_profile(dealt)
    ledger = Ledger(dealt, "hospital-a")
    (charge,) = (entry.act for entry in ledger.entries())
    assert isinstance(charge, Charge)
    assert (charge.run, charge.epsilon) == ("run-1", 1.0)
    assert first.partitions in charge.what
    assert [entry.run for entry in EgressLog(dealt).entries()] == ["run-1", "run-2"]
    # Other rows are another release.
    manifest = load_manifest(dealt)
    put_parts(dealt, stroke, train=load_part(dealt, manifest, "train").iloc[1:])
    assert build_profile(dealt, stroke, 5, "run-3", noised(1.0)).partitions != first.partitions
    assert len(ledger.entries()) == 2


@pytest.mark.faults
def test_a_profile_without_budget_opens_no_row(dealt: FolderStore, stroke: CohortSpec) -> None:
    dealt.delete(load_manifest(dealt).files["train"].key)
    with pytest.raises(BudgetExceededError, match=r"asks 1\.00, lifetime would be 1\.00 of 0\.50"):
        build_profile(dealt, stroke, 5, "run-1", noised(1.0, cap=0.5))
    assert EgressLog(dealt).entries() == []
    # Paid for, it is the rows that are missing.
    with pytest.raises(ObjectNotFoundError, match=r"train\.parquet"):
        build_profile(dealt, stroke, 5, "run-1", noised(1.0))


def test_noised_moments_are_pooled(dealt: FolderStore, stroke: CohortSpec) -> None:
    profile = build_profile(dealt, stroke, 5, "run-1", noised(1.0, seed=3))
    pooled = pool_moments([profile, profile], stroke)
    assert None not in pooled.values()
    built = Preprocessor.from_moments(stroke, pooled)
    assert built.scalings["age"].center == pytest.approx(43, abs=5)
    # Of two rows nothing is left, whatever the noise.
    put_parts(dealt, stroke, train=load_part(dealt, load_manifest(dealt), "train").iloc[:2])
    tiny = build_profile(dealt, stroke, 5, "run-2", noised(1.0))
    assert set(tiny.moments.values()) == {None}


def test_the_consortium_says_whether_a_profile_is_noised() -> None:
    config = {
        "name": "c",
        "cohort": "stroke",
        "split": {"salt": "a salt of it"},
        "privacy_budget": {"epsilon": 2.0, "delta": 1e-6},
        "hospitals": [{"name": "a"}, {"name": "b", "privacy_budget": {"epsilon": 1.0}}],
    }
    assert noised_profile(Consortium.model_validate(config), "a") is None
    consortium = Consortium.model_validate(config | {"profile_epsilon": 0.5})
    a, b = (noised_profile(consortium, name) for name in "ab")
    assert a == NoisedRelease("a", PrivacyBudget(epsilon=2.0, delta=1e-6), 0.5, 1e-6)
    assert b == NoisedRelease("b", PrivacyBudget(epsilon=1.0), 0.5, 1e-5)
    with pytest.raises(ValidationError, match="profile_epsilon"):
        Consortium.model_validate(config | {"profile_epsilon": 0})

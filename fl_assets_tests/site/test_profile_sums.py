from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fl_assets.cohorts.spec import CohortSpec
from fl_assets.learning.features import Moments
from fl_assets.site.profile import exact_sums
from fl_assets.site.profile_sums import counted, moments_of, sensitivity, unit_sums


def moved(frame: pd.DataFrame, row: pd.DataFrame, spec: CohortSpec) -> float:
    """How far the sums of a frame move, in L2 norm, when a row is added to it."""
    before, after = exact_sums(frame, spec), exact_sums(pd.concat([frame, row]), spec)
    return float(np.linalg.norm(after - before))


def test_no_patient_moves_the_sums_further_than_stated(
    stroke: CohortSpec, patients: pd.DataFrame
) -> None:
    few = patients.iloc[:40]
    norms = [moved(few, patients.iloc[[row]], stroke) for row in range(40, 140)]
    assert max(norms) <= sensitivity(stroke)
    assert min(norms) >= np.sqrt(8)
    # The first and the last row are removed as they would be added.
    assert moved(few.iloc[1:], few.iloc[:1], stroke) <= sensitivity(stroke)
    assert moved(few.iloc[:-1], few.iloc[-1:], stroke) <= sensitivity(stroke)


def test_the_farthest_patient_moves_them_just_so_far(
    stroke: CohortSpec, patients: pd.DataFrame
) -> None:
    # Of stroke: the label, 7 columns without numbers, 3 with.
    assert sensitivity(stroke) == np.sqrt(1 + 7 + 3 * 3)
    farthest = patients.iloc[[0]].assign(age=120.0, avg_glucose_level=700.0, bmi=120.0)
    assert moved(patients, farthest, stroke) == pytest.approx(sensitivity(stroke))
    missing = farthest.assign(bmi=np.nan)
    assert moved(patients, missing, stroke) == pytest.approx(np.sqrt(1 + 7 + 2 * 3 + 1))


def test_every_sum_has_a_name(stroke: CohortSpec, patients: pd.DataFrame) -> None:
    cells = counted(stroke)
    assert len(exact_sums(patients, stroke)) == sum(map(len, cells.values())) + 2 * 3
    assert cells["missing", "bmi"] == ["missing"]
    assert cells["counts", "gender"] == ["Male", "Female", "Other"]
    assert cells["counts", "hypertension"] == ["0", "1"]


def test_values_are_clipped_to_the_public_range_and_scaled(stroke: CohortSpec) -> None:
    (bmi,) = (column for column in stroke.numbers if column.name == "bmi")
    # Clipped to 10 to 60, in units of 32 around 28.
    assert unit_sums(np.array([97.0]), bmi) == (1.0, 1.0)
    assert unit_sums(np.array([12.0, 44.0]), bmi) == (0.0, 0.5)
    assert unit_sums(np.array([]), bmi) == (0.0, 0.0)


def test_moments_come_back_from_unit_sums(stroke: CohortSpec, patients: pd.DataFrame) -> None:
    for column in stroke.numbers:
        values = patients[column.name].dropna().to_numpy(dtype=np.float64)
        clipped = np.clip(values, column.public.low, column.public.high)
        expected = Moments.of(clipped, column.public.center)
        found = moments_of(len(values), *unit_sums(values, column), column, 5.0)
        assert found is not None
        assert found.mean == pytest.approx(expected.mean)
        assert found.deviation == pytest.approx(expected.deviation)


@pytest.mark.parametrize(
    ("count", "total", "squares", "told"),
    [
        (100, 10.0, 20.0, True),
        # More than any values of that number could have: the mean square is at most 1.
        (100, 10.0, 400.0, True),
        (100, 10.0, 0.9, False),
        (100, 10.0, -3.0, False),
        (100, 130.0, 200.0, False),
        (15, 1.0, 4.0, False),
        (0, 0.0, 1.0, False),
    ],
)
def test_moments_that_are_all_noise_are_not_told(
    count: int, total: float, squares: float, told: bool, stroke: CohortSpec
) -> None:
    age = stroke.numbers[0]
    found = moments_of(count, total, squares, age, 15.4)
    assert (found is not None) == told
    if found is not None:
        assert found.count == count
        assert 0 < found.deviation <= 50
        assert 0 <= found.mean <= 100

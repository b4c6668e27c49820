import numpy as np
import pytest

from fl_assets.privacy.masking.errors import MaskLeftError, OutOfRangeError
from fl_assets.privacy.masking.field import from_field, limit, to_field


def test_a_number_is_off_by_at_most_half_a_step_of_the_fixed_point():
    values = np.random.default_rng(0).normal(scale=100, size=10_000)
    for bits in (8, 20, 32):
        off = np.abs(from_field(to_field(values, 3, bits), bits) - values)
        assert off.max() <= 2.0 ** -(bits + 1)
        assert off.max() > 0.9 * 2.0 ** -(bits + 1)


def test_sums_wrap_around_and_come_back():
    values = np.array([1.5, -2.25, 0.0, -(2.0**20)])
    field = to_field(values, 3, 32)
    mask = np.full(4, 2**64 - 7, dtype=np.uint64)
    np.testing.assert_array_equal(from_field(field + mask + field - mask, 32), 2 * values)


@pytest.mark.parametrize("sites", [3, 50])
def test_what_all_sites_may_have_at_most_fits_their_sum(sites):
    most = np.array([limit(sites, 32), -limit(sites, 32)])
    total = np.zeros(2, dtype=np.uint64)
    for _ in range(sites):
        total += to_field(most, sites, 32)
    np.testing.assert_allclose(from_field(total, 32), sites * most, rtol=1e-15)


def test_values_that_do_not_fit_are_counted_and_not_shown():
    with pytest.raises(
        OutOfRangeError, match=r"3 of 5 values.*3 sites.*lower the learning rate"
    ) as e:
        to_field(np.array([0.0, 7.77e9, np.nan, 1.0, -np.inf]), 3, 32)
    assert "777" not in str(e.value).replace(".", "")


def test_a_sum_with_a_mask_left_in_it_is_noticed():
    rest = np.random.default_rng(0).integers(0, 2**64, size=40, dtype=np.uint64)
    with pytest.raises(MaskLeftError, match=r"of 40 values.*mask is left"):
        from_field(rest, 32)

import math

import dp_accounting
import mpmath
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_assets.privacy.gaussian import gaussian_epsilon, gaussian_mu

DELTAS = st.floats(-12, -2).map(lambda exponent: 10**exponent)


def delta_in_many_digits(epsilon: float, mu: float) -> float:
    """Balle & Wang 2018, theorem 8, with 60 digits."""
    with mpmath.workdps(60):
        e, m = mpmath.mpf(epsilon), mpmath.mpf(mu)
        return float(mpmath.ncdf(m / 2 - e / m) - mpmath.exp(e) * mpmath.ncdf(-m / 2 - e / m))


@pytest.mark.parametrize("delta", [1e-3, 1e-5, 1e-8])
@pytest.mark.parametrize("noise", [0.02, 0.3, 1.0, 4.0, 30.0, 500.0])
def test_it_is_what_google_computes(noise: float, delta: float) -> None:
    expected = dp_accounting.get_epsilon_gaussian(noise, delta)
    assert gaussian_epsilon(1 / noise, delta) == pytest.approx(expected, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("delta", [1e-2, 1e-5, 1e-12])
@pytest.mark.parametrize("mu", [1e-4, 1e-3, 0.03, 1.0, 7.0, 50.0, 300.0])
def test_no_extreme_costs_a_digit(mu: float, delta: float) -> None:
    epsilon = gaussian_epsilon(mu, delta)
    if delta_in_many_digits(0.0, mu) <= delta:
        assert epsilon == 0
    else:
        assert delta_in_many_digits(epsilon, mu) == pytest.approx(delta, rel=1e-6)
        # An upper bound, and not by much.
        assert delta_in_many_digits(epsilon, mu) <= delta
        assert delta_in_many_digits(epsilon * (1 - 1e-9), mu) > delta


@pytest.mark.parametrize(
    ("epsilon", "mu"), [(0.5, 0.1422), (1.0, 0.2681), (3.0, 0.7191), (8.0, 1.666)]
)
def test_known_pairs(epsilon: float, mu: float) -> None:
    assert gaussian_mu(epsilon, 1e-5) == pytest.approx(mu, abs=6e-5)


@given(epsilon=st.floats(1e-4, 1000), delta=DELTAS)
def test_mu_keeps_within_epsilon_and_wastes_none(epsilon: float, delta: float) -> None:
    mu = gaussian_mu(epsilon, delta)
    assert gaussian_epsilon(mu, delta) <= epsilon
    assert gaussian_epsilon(mu * (1 + 1e-8), delta) > epsilon


@given(mu=st.floats(1e-4, 50), factor=st.floats(1.001, 2), delta=DELTAS)
def test_more_noise_or_delta_costs_no_more(mu: float, factor: float, delta: float) -> None:
    epsilon = gaussian_epsilon(mu, delta)
    assert 0 <= gaussian_epsilon(mu / factor, delta) <= epsilon < math.inf
    assert gaussian_epsilon(mu, delta * factor) <= epsilon


def test_nothing_done_costs_nothing() -> None:
    assert gaussian_epsilon(0.0, 1e-5) == 0

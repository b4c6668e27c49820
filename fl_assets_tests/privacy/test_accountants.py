import math

import numpy as np
import pytest
from dp_accounting.pld.privacy_loss_distribution import from_gaussian_mechanism
from opacus.accountants import PRVAccountant, RDPAccountant

from fl_assets.privacy.accountants import prv_epsilon, rdp_epsilon

DELTA = 1e-5

pytestmark = [
    pytest.mark.filterwarnings("ignore:Optimal order is the largest alpha"),
    pytest.mark.filterwarnings("ignore:divide by zero encountered in log"),
]
"""Of Opacus' own accountants."""

USUAL = {(9.7, 0.0263): 9500}
MIXED = {(2.0, 0.1): 40, (1.1, 0.02): 100, (12.0, 1.0): 1}


def opacus(accountant: RDPAccountant | PRVAccountant, mechanisms: dict, **asked: float) -> float:
    accountant.history = [(*each, steps) for each, steps in mechanisms.items()]
    return accountant.get_epsilon(DELTA, **asked)


@pytest.mark.parametrize("mechanisms", [USUAL, MIXED, {(1.0, 0.5): 3}])
def test_rdp_is_that_of_opacus_accountant(mechanisms: dict) -> None:
    assert rdp_epsilon(mechanisms, DELTA) == pytest.approx(opacus(RDPAccountant(), mechanisms))


def test_rdp_has_the_orders_that_a_small_epsilon_needs() -> None:
    mechanisms = {(60.0, 1.0): 1}
    # The best order of a Gaussian mechanism, without a grid.
    orders = np.linspace(1.01, 900, 200_000)
    by_order = orders / (2 * 60.0**2) + np.log1p(-1 / orders)
    by_order -= (np.log(DELTA) + np.log(orders)) / (orders - 1)
    assert rdp_epsilon(mechanisms, DELTA) == pytest.approx(by_order.min(), rel=5e-3)
    assert opacus(RDPAccountant(), mechanisms) > 1.2 * by_order.min()


@pytest.mark.parametrize("mechanisms", [USUAL, MIXED])
def test_prv_is_that_of_opacus_accountant(mechanisms: dict) -> None:
    expected = opacus(PRVAccountant(), mechanisms, eps_error=0.01)
    assert prv_epsilon(mechanisms, DELTA) == pytest.approx(expected, abs=1e-3)


def test_prv_is_as_accurate_as_a_small_epsilon_needs() -> None:
    mechanisms = {(20.0, 0.02): 30}
    bounds = [
        from_gaussian_mechanism(
            20.0,
            sampling_prob=0.02,
            pessimistic_estimate=pessimistic,
            use_connect_dots=pessimistic,
            value_discretization_interval=1e-6,
        )
        .self_compose(30)
        .get_epsilon_for_delta(DELTA)
        for pessimistic in (False, True)
    ]
    assert 0 < bounds[0] < 0.03
    assert bounds[0] <= prv_epsilon(mechanisms, DELTA) <= bounds[1] + 0.0005


@pytest.mark.parametrize(
    "mechanisms",
    [
        pytest.param({(0.01, 0.5): 1}, id="little noise"),
        pytest.param({(50.0, 0.01): 10**9}, id="very many steps"),
    ],
)
def test_prv_gives_way_where_it_would_not_end(mechanisms: dict) -> None:
    assert prv_epsilon(mechanisms, DELTA) is None
    assert math.isfinite(rdp_epsilon(mechanisms, DELTA))


def test_prv_gives_way_to_a_delta_that_drowns_in_rounding_errors() -> None:
    assert prv_epsilon(USUAL, 1e-15) is None

"""Upper bounds on epsilon of composed, sampled Gaussian mechanisms, by the parts of Opacus.

Opacus' accountants themselves use too few orders for a small epsilon, give an error of 0.01 to an
epsilon of 0.02 as well, and do not say beforehand that a calculation would take hours.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from functools import lru_cache

import numpy as np

ORDERS = (
    *(float(round(64 * 1.2**k)) for k in range(15, -1, -1)),
    *(float(order) for order in range(63, 10, -1)),
    *(order / 10 for order in range(109, 10, -1)),
)
"""Of the Rényi divergences: those of Opacus, and further ones from 64 up to 986, without which an
epsilon below about 0.3 would come out too high."""

_LARGEST_GRID = 2**21
"""Points of a privacy loss distribution: about a second, and some hundred MB."""

Mechanisms = Mapping[tuple[float, float], int]
"""Steps of mechanisms, by noise multiplier and sampling rate; not empty."""


def rdp_epsilon(mechanisms: Mechanisms, delta: float) -> float:
    """Return the bound by Rényi divergences (Mironov, Talwar & Zhang 2019, section 3.3).

    Args:
        mechanisms: to be composed.
        delta: between 0 and 1.

    Returns:
        At least 0; infinite where no order gives a number.
    """
    best = math.inf
    for order in ORDERS:
        # What delta costs by itself rises towards lower orders, which are the slow ones.
        if _convert(order, 0.0, delta) >= best:
            break
        rdp = sum(steps * _divergence(*each, order) for each, steps in mechanisms.items())
        best = min(best, _convert(order, rdp, delta))
    return max(0.0, best)


def prv_epsilon(mechanisms: Mechanisms, delta: float) -> float | None:
    """Return the bound by the distribution of the privacy loss (Gopi et al. 2021, algorithm 1).

    It is within 0.01 of the truth, or 1 % below an epsilon of 1, where a grid of bearable size
    allows. The distribution is that of removing a row; no case is known where adding one costs
    more.

    Args:
        mechanisms: to be composed.
        delta: between 0 and 1.

    Returns:
        At least 0; None where numbers do not bear it, and the other bound remains.
    """
    delta_error, steps = delta / 1000, sum(mechanisms.values())
    # A rounding error of the characteristic function grows with the power to which it is raised.
    if steps * np.finfo(np.float64).eps > delta_error / 10:
        return None
    wanted = 0.01 * min(1.0, rdp_epsilon(mechanisms, delta))
    reach = _reach(mechanisms, delta_error)
    finest = math.sqrt(steps * math.log(12 / delta_error) / 2)
    eps_error = max(wanted, 2 * reach * finest / _LARGEST_GRID)
    # With little noise or very many steps the grid is too coarse to beat the other bound.
    if not eps_error <= 10 * wanted:
        return None
    try:
        found = _prv_epsilon(mechanisms, reach, eps_error / finest, delta, delta_error, eps_error)
    except (RuntimeError, ValueError):
        # Opacus' own tests of what it has computed.
        return None
    return max(0.0, found) if math.isfinite(found) else None


def _convert(order: float, rdp: float, delta: float) -> float:
    """Return epsilon of a Rényi divergence (Balle et al. 2020, theorem 21)."""
    return rdp + math.log1p(-1 / order) - math.log(delta * order) / (order - 1)


@lru_cache(maxsize=8192)
def _divergence(noise_multiplier: float, sampling_rate: float, order: float) -> float:
    """Return the Rényi divergence of one step."""
    from opacus.accountants.analysis.rdp import compute_rdp

    try:
        found = compute_rdp(
            q=sampling_rate, noise_multiplier=noise_multiplier, steps=1, orders=order
        )
    except (ArithmeticError, ValueError):
        # The series of a fractional order loses all its digits where there is little noise.
        return math.inf
    return math.inf if math.isnan(found) else max(0.0, float(found))


def _reach(mechanisms: Mechanisms, delta_error: float) -> float:
    """Return how far the loss has to be followed (Gopi et al. 2021, remark 5.6)."""
    steps = sum(mechanisms.values())
    single = (rdp_epsilon({each: 1}, delta_error / (8 * steps)) for each in mechanisms)
    return max(rdp_epsilon(mechanisms, delta_error / 4), *single) + 3


def _prv_epsilon(
    mechanisms: Mechanisms,
    reach: float,
    mesh: float,
    delta: float,
    delta_error: float,
    eps_error: float,
) -> float:
    from opacus.accountants.analysis import prv

    domain = prv.Domain.create_aligned(-reach, reach, mesh)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        single = [
            prv.discretize(
                prv.TruncatedPrivacyRandomVariable(
                    prv.PoissonSubsampledGaussianPRV(sampling_rate, noise_multiplier),
                    domain.t_min,
                    domain.t_max,
                ),
                domain,
            )
            for noise_multiplier, sampling_rate in mechanisms
        ]
        composed = prv.compose_heterogeneous(single, list(mechanisms.values()))
        _, _, above = composed.compute_epsilon(delta, delta_error, eps_error)
    return float(above)

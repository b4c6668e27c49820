"""The exact trade-off of epsilon and delta for the Gaussian mechanism.

A Gaussian mechanism is told by ``mu``, its sensitivity over its standard deviation. Several in a
row are exactly one whose ``mu`` is the root of their sum of squares (Dong, Roth & Su 2022,
corollary 3.3), so nothing is lost by composing them.
"""

from __future__ import annotations

import math

import numpy as np

# SciPy within the functions: a site that trains without privacy does without its imports.


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Return the smallest epsilon of a Gaussian mechanism, 0 where ``delta`` alone covers it.

    It solves ``delta = Phi(mu/2 - eps/mu) - exp(eps) Phi(-mu/2 - eps/mu)`` (Balle & Wang 2018,
    theorem 8; Dong, Roth & Su 2022, corollary 2.13), in logarithms, so that neither a tiny delta
    nor a large epsilon overflows.

    Args:
        mu: sensitivity over standard deviation, at least 0.
        delta: between 0 and 1.
    """
    from scipy.optimize import brentq
    from scipy.special import ndtri

    target = math.log(delta)
    if mu == 0 or _log_delta(0.0, mu) <= target:
        return 0.0
    # Without the second term, which is never negative, the equation is a quadratic one.
    above = mu * mu / 2 - mu * ndtri(delta)
    root = brentq(lambda e: _log_delta(e, mu) - target, 0.0, above, xtol=1e-300, rtol=1e-13)
    # More than the rounding errors of a tiny mu.
    return float(root * (1 + 1e-10))


def gaussian_mu(epsilon: float, delta: float) -> float:
    """Return the largest ``mu`` of a Gaussian mechanism that keeps within epsilon and delta.

    The inverse of :func:`gaussian_epsilon`, a billionth smaller, so that noise computed from it
    does not pass epsilon by rounding.
    """
    from scipy.optimize import brentq
    from scipy.special import ndtri

    target = math.log(delta)
    z = -ndtri(delta)
    # That quadratic equation again, solved for mu without a difference of large numbers.
    below = 2 * epsilon / (math.sqrt(z * z + 2 * epsilon) + z)
    above = 2 * below
    while _log_delta(epsilon, above) < target:
        above *= 2
    root = brentq(lambda m: _log_delta(epsilon, m) - target, below, above, xtol=1e-300, rtol=1e-13)
    return float(root * (1 - 1e-9))


def _log_delta(epsilon: float, mu: float) -> float:
    from scipy.special import log_ndtr

    first = log_ndtr(mu / 2 - epsilon / mu)
    second = epsilon + log_ndtr(-mu / 2 - epsilon / mu)
    return float(first + np.log1p(-np.exp(second - first)))

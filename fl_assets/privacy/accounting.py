"""Epsilon of everything that mechanisms did to the same rows, and the noise for a given epsilon.

Adjacency is adding or removing one row, unless a function says otherwise. Events are composed as
mechanisms and converted to epsilon once: a sum of epsilons is far too high, and epsilon per round
says nothing about a run.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache

from fl_assets.errors import FlAssetsError
from fl_assets.privacy.accountants import Mechanisms, prv_epsilon, rdp_epsilon
from fl_assets.privacy.events import MechanismEvent
from fl_assets.privacy.gaussian import gaussian_epsilon, gaussian_mu

LARGEST_NOISE_MULTIPLIER = 1e6
"""Noise that hides a sum over a million rows: what asks for more cannot learn."""

_TOLERANCE = 3e-5
"""Relative, of a noise multiplier that is searched for."""

_HOPELESS = 300.0
"""Epsilon whose exponential leaves no delta to reckon with."""


class UnreachableEpsilonError(FlAssetsError):
    """No sensible noise reaches an epsilon."""

    def __init__(self, epsilon: float, delta: float, sampling_rate: float, steps: int) -> None:
        super().__init__(
            f"epsilon {epsilon:g} at delta {delta:g} over {steps} steps at sampling rate "
            f"{sampling_rate:g} needs a noise multiplier above {LARGEST_NOISE_MULTIPLIER:g}: ask "
            "for a larger epsilon or fewer steps"
        )


def epsilon(events: Iterable[MechanismEvent], delta: float) -> float:
    """Return the tightest upper bound on epsilon of all events together.

    Without sampling it is exact. Otherwise it is the smallest of :func:`epsilon_rdp`,
    :func:`epsilon_prv` and what the same noise costs without sampling, which only hides rows. With
    no event, or none that ran, it is 0.

    Args:
        events: of one set of rows, in any order.
        delta: between 0 and 1.
    """
    return _epsilon(_ran(events), delta)


def epsilon_exact(events: Iterable[MechanismEvent], delta: float) -> float | None:
    """Return the exact epsilon of all events together, None where one is sampled."""
    ran = _ran(events)
    return None if _sampled(ran) else gaussian_epsilon(_mu(ran), delta)


def epsilon_rdp(events: Iterable[MechanismEvent], delta: float) -> float:
    """Return the upper bound of :func:`fl_assets.privacy.accountants.rdp_epsilon`."""
    mechanisms = _mechanisms(_ran(events))
    return rdp_epsilon(mechanisms, delta) if mechanisms else 0.0


def epsilon_prv(events: Iterable[MechanismEvent], delta: float) -> float | None:
    """Return the upper bound of :func:`fl_assets.privacy.accountants.prv_epsilon`, if any."""
    mechanisms = _mechanisms(_ran(events))
    return prv_epsilon(mechanisms, delta) if mechanisms else 0.0


def replace_one_epsilon(events: Iterable[MechanismEvent], delta: float) -> float:
    """Return epsilon of the events for replacing a row by another one, an upper bound.

    Without sampling it is exact: twice the sensitivity, so twice ``mu``. With it, replacing is
    removing and then adding: what is (e, d)-private for one of these is
    (2e, (1 + exp(e)) d)-private for both (Vadhan 2017, lemma 2.2).

    Args:
        events: as of :func:`epsilon`.
        delta: between 0 and 1.
    """
    ran = _ran(events)
    if not _sampled(ran):
        return gaussian_epsilon(2 * _mu(ran), delta)
    single = _epsilon(ran, delta)
    while single < _HOPELESS:
        found = _epsilon(ran, delta / (1 + math.exp(single)))
        if found <= single:
            return 2 * single
        # A little further than needed, for it is a limit that is approached.
        single = 1.001 * found
    return math.inf


def noise_multiplier(epsilon: float, delta: float, sampling_rate: float, steps: int) -> float:
    """Return the smallest noise multiplier with which all steps together keep within epsilon.

    Args:
        epsilon: of all steps together, by :func:`epsilon`; above 0.
        delta: between 0 and 1.
        sampling_rate: probability of a row to be in a step.
        steps: of all rounds, at least 1.

    Returns:
        It keeps within epsilon without fail, and is at most 0.01 % larger than needed.

    Raises:
        UnreachableEpsilonError: it would be above ``LARGEST_NOISE_MULTIPLIER``.
    """
    found = math.sqrt(steps) / gaussian_mu(epsilon, delta)
    if sampling_rate < 1:
        found = _sampled_noise(found, epsilon, delta, sampling_rate, steps)
    if found > LARGEST_NOISE_MULTIPLIER:
        raise UnreachableEpsilonError(epsilon, delta, sampling_rate, steps)
    return found


def remaining(events: Iterable[MechanismEvent], epsilon: float, delta: float) -> float:
    """Return what one more run without sampling may ask for, so that all keeps within epsilon.

    Args:
        events: so far.
        epsilon: the cap.
        delta: between 0 and 1, of the cap and of that run.

    Returns:
        Epsilon of that run by itself, 0 when the cap is reached: exact without sampling, else at
        most 0.1 % of the cap too little.
    """
    ran = _ran(events)
    cap = gaussian_mu(epsilon, delta)
    if not _sampled(ran):
        left = math.sqrt(max(0.0, cap**2 - _mu(ran) ** 2))
        return gaussian_epsilon(left, delta)

    @cache
    def excess(minus_mu: float) -> float:
        more = [MechanismEvent(noise_multiplier=-1 / minus_mu)] if minus_mu else []
        return _epsilon([*ran, *more], delta) - epsilon

    if excess(0.0) >= 0:
        return 0.0
    return gaussian_epsilon(-_first_within(excess, -cap, 0.0, 1e-3 * cap), delta)


def _sampled_noise(
    enough: float, target: float, delta: float, sampling_rate: float, steps: int
) -> float:
    def search(bound: Callable[..., float], high: float, stride: float) -> float:
        @cache
        def excess(log_noise: float) -> float:
            noise = math.exp(log_noise)
            event = MechanismEvent(noise_multiplier=noise, sampling_rate=sampling_rate, steps=steps)
            return bound([event], delta) - target

        if excess(high) > 0:
            return high
        while excess(high - stride) <= 0:
            high -= stride
        return _first_within(excess, high - stride, high, _TOLERANCE)

    # RDP costs a tenth of PRV and leads to within a few strides of the answer.
    by_rdp = search(epsilon_rdp, math.log(enough), 0.7)
    return math.exp(search(_epsilon, by_rdp, 0.1))


def _first_within(
    excess: Callable[[float], float], low: float, high: float, tolerance: float
) -> float:
    """Return where a falling function is first at most 0; it is at ``high``."""
    from scipy.optimize import brentq

    if excess(low) <= 0:
        return low
    found = brentq(excess, low, high, xtol=tolerance)
    while excess(found) > 0:
        found += tolerance
    return float(min(found, high))


def _epsilon(ran: list[MechanismEvent], delta: float) -> float:
    unsampled = gaussian_epsilon(_mu(ran), delta)
    if not _sampled(ran):
        return unsampled
    prv = epsilon_prv(ran, delta)
    return min(unsampled, epsilon_rdp(ran, delta), math.inf if prv is None else prv)


def _ran(events: Iterable[MechanismEvent]) -> list[MechanismEvent]:
    return [event for event in events if event.steps]


def _sampled(ran: list[MechanismEvent]) -> bool:
    return any(event.sampling_rate < 1 for event in ran)


def _mu(ran: Iterable[MechanismEvent]) -> float:
    """Return what all would be as one Gaussian mechanism if none were sampled."""
    return math.sqrt(sum(event.steps / event.noise_multiplier**2 for event in ran))


def _mechanisms(ran: list[MechanismEvent]) -> Mechanisms:
    """Merge equal mechanisms, and all without sampling into one."""
    mechanisms: Counter[tuple[float, float]] = Counter()
    for event in ran:
        if event.sampling_rate < 1:
            mechanisms[event.noise_multiplier, event.sampling_rate] += event.steps
    plain = _mu(event for event in ran if event.sampling_rate == 1)
    if plain:
        mechanisms[1 / plain, 1.0] = 1
    return mechanisms

import itertools
import math

import numpy as np
import pytest
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
from dp_accounting.pld.privacy_loss_distribution import (
    PrivacyLossDistribution,
    from_gaussian_mechanism,
)
from dp_accounting.rdp import RdpAccountant
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants.utils import get_noise_multiplier

from fl_assets.privacy.accounting import (
    UnreachableEpsilonError,
    epsilon,
    epsilon_exact,
    epsilon_prv,
    epsilon_rdp,
    noise_multiplier,
    remaining,
    replace_one_epsilon,
)
from fl_assets.privacy.events import MechanismEvent

DELTA = 1e-5
BATCHES = 10
"""Of event lists, so that they can be shared out between workers."""


def event(noise: float, rate: float = 1.0, steps: int = 1) -> MechanismEvent:
    return MechanismEvent(noise_multiplier=noise, sampling_rate=rate, steps=steps)


def random_events(random: np.random.Generator) -> list[MechanismEvent]:
    """One to three events, each of a few tenths to a few units of epsilon by itself."""
    events = []
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        steps = round(math.exp(random.uniform(0, math.log(100))))
        rate = 1.0 if random.random() < 0.4 else math.exp(random.uniform(-5, -1))
        mu = math.exp(random.uniform(-2, 0.3))
        events.append(event(max(0.9, rate * math.sqrt(steps) / mu), rate, steps))
    return events


def lists(batch: int) -> list[list[MechanismEvent]]:
    """The 200 random lists, a tenth of them."""
    random = np.random.default_rng([4, batch])
    return [random_events(random) for _ in range(200 // BATCHES)]


def google_rdp(events: list[MechanismEvent]) -> float:
    accountant = RdpAccountant(
        [*np.arange(25, 110) / 10, *range(11, 64), *np.geomspace(64, 200, 12).round()]
    )
    for each in events:
        mechanism = GaussianDpEvent(each.noise_multiplier)
        if each.sampling_rate < 1:
            mechanism = PoissonSampledDpEvent(each.sampling_rate, mechanism)
        accountant.compose(mechanism, each.steps)
    return accountant.get_epsilon(DELTA)


def google_pld(events: list[MechanismEvent], *, pessimistic: bool, grid: float = 1e-2) -> float:
    """A bound on the truth, from above or below; for adding a row and for removing one."""
    total: PrivacyLossDistribution | None = None
    for each in events:
        loss = from_gaussian_mechanism(
            each.noise_multiplier,
            sampling_prob=each.sampling_rate,
            pessimistic_estimate=pessimistic,
            use_connect_dots=pessimistic,
            value_discretization_interval=grid,
        ).self_compose(each.steps)
        total = loss if total is None else total.compose(loss)
    assert total is not None
    return total.get_epsilon_for_delta(DELTA)


@pytest.mark.parametrize("batch", range(BATCHES))
def test_random_lists_agree_with_google(batch: int) -> None:
    for events in lists(batch):
        found = epsilon(events, DELTA)
        rdp = epsilon_rdp(events, DELTA)
        assert rdp == pytest.approx(google_rdp(events), rel=0.01)
        assert google_pld(events, pessimistic=False, grid=2e-2) <= found <= rdp


@pytest.mark.parametrize("batch", range(BATCHES))
def test_the_bound_is_tight(batch: int) -> None:
    events = lists(batch)[0]
    below, above = (google_pld(events, pessimistic=p, grid=5e-4) for p in (False, True))
    assert below <= epsilon(events, DELTA) <= 1.01 * above + 0.012


@pytest.mark.parametrize(("noise", "steps"), [(28.9, 60), (1.0, 1), (4.0, 300), (0.5, 10)])
def test_steps_without_sampling_are_exact(noise: float, steps: int) -> None:
    found = epsilon([event(noise, steps=steps)], DELTA)
    bounds = [google_pld([event(noise, steps=steps)], pessimistic=p, grid=1e-3) for p in (0, 1)]
    assert bounds[0] - 1e-9 <= found <= bounds[1] + 1e-9
    assert found == epsilon_exact([event(noise, steps=steps)], DELTA)
    # However they are dealt out.
    dealt = [event(noise)] * (steps - 1) + [event(noise)]
    assert epsilon(dealt, DELTA) == pytest.approx(found, rel=1e-9)
    assert epsilon_rdp(dealt, DELTA) == pytest.approx(
        epsilon_rdp([event(noise, steps=steps)], DELTA)
    )


def test_sixty_full_steps_by_each_accountant() -> None:
    events = [event(28.9, steps=60)]
    assert epsilon(events, DELTA) == pytest.approx(1.0, abs=5e-4)
    assert epsilon_prv(events, DELTA) == pytest.approx(1.010, abs=1e-3)
    assert epsilon_rdp(events, DELTA) == pytest.approx(1.092, abs=2e-3)
    assert epsilon_rdp([event(31.40, steps=60)], DELTA) == pytest.approx(1.0, abs=3e-3)


def test_epsilon_per_round_is_not_that_of_the_run() -> None:
    """Epsilon 1 for 5 epochs of 38 batches, as Opacus has it, asked for anew in 50 rounds."""
    rate, steps = 32 / 1216, 5 * 38
    noise = get_noise_multiplier(
        target_epsilon=1.0, target_delta=DELTA, sample_rate=rate, steps=steps, accountant="rdp"
    )
    assert epsilon_rdp([event(noise, rate, steps)], DELTA) == pytest.approx(1.0, abs=0.02)
    run = [event(noise, rate, steps)] * 50
    assert epsilon_rdp(run, DELTA) == pytest.approx(8.15, abs=0.1)
    assert epsilon(run, DELTA) == pytest.approx(7.6, abs=0.1)


def test_nothing_done_costs_nothing() -> None:
    for events in ([], [event(1.0, steps=0)], [event(1.0, 0.1, steps=0)]):
        for cost in (epsilon, epsilon_exact, epsilon_rdp, epsilon_prv, replace_one_epsilon):
            assert cost(events, DELTA) == 0


def test_only_what_ran_decides_whether_all_is_exact() -> None:
    assert epsilon_exact([event(3.0), event(1.0, 0.1)], DELTA) is None
    reserved = [event(3.0), event(1.0, 0.1, steps=0)]
    assert epsilon_exact(reserved, DELTA) == epsilon([event(3.0)], DELTA)


@pytest.mark.parametrize("noise", [1e-3, 0.1, 1e3, 1e6])
@pytest.mark.parametrize("rate", [1e-6, 0.01, 0.5, 0.999])
def test_extremes_have_a_finite_epsilon(noise: float, rate: float) -> None:
    for steps in (1, 10_000_000):
        found = epsilon([event(noise, rate, steps)], DELTA)
        assert 0 <= found <= epsilon([event(noise, 1.0, steps)], DELTA)


full_events = st.lists(
    st.builds(event, st.floats(0.3, 500), st.just(1.0), st.integers(0, 1000)), max_size=4
)
sampled_events = st.lists(
    st.builds(event, st.floats(1, 50), st.floats(0.01, 0.3), st.integers(1, 50)),
    min_size=1,
    max_size=1,
)


@given(events=full_events, more=full_events)
def test_more_events_never_cost_less(
    events: list[MechanismEvent], more: list[MechanismEvent]
) -> None:
    assert epsilon(events, DELTA) <= epsilon(events + more, DELTA) * (1 + 1e-9)
    assert epsilon(events + more, DELTA) == pytest.approx(epsilon(more + events, DELTA), rel=1e-9)


@settings(max_examples=5, deadline=None)
@given(events=sampled_events, factor=st.floats(1.2, 2))
def test_noise_and_rarer_draws_never_cost_more(events: list[MechanismEvent], factor: float) -> None:
    found = epsilon(events, DELTA)
    louder = [event(e.noise_multiplier * factor, e.sampling_rate, e.steps) for e in events]
    rarer = [event(e.noise_multiplier, e.sampling_rate / factor, e.steps) for e in events]
    longer = [event(e.noise_multiplier, e.sampling_rate, 2 * e.steps) for e in events]
    assert max(epsilon(louder, DELTA), epsilon(rarer, DELTA)) <= found <= epsilon(longer, DELTA)


@given(target=st.floats(1e-3, 100), delta=st.floats(1e-9, 1e-3), steps=st.integers(1, 10_000))
def test_the_noise_for_full_steps_keeps_within_epsilon(
    target: float, delta: float, steps: int
) -> None:
    noise = noise_multiplier(target, delta, 1.0, steps)
    assert epsilon([event(noise, steps=steps)], delta) <= target
    assert epsilon([event(noise * (1 - 1e-6), steps=steps)], delta) > target


@pytest.mark.parametrize(
    ("target", "rate", "steps", "expected"),
    [
        (1.0, 1.0, 60, 28.90),
        (1.0, 1.0, 50, 26.38),
        (1.0, 0.0263, 9500, 9.70),
        (1.0, 0.25, 50, 6.87),
        (1.0, 0.5, 50, 13.47),
        (1.0, 0.0263, 1, 0.852),
        (8.0, 0.03, 50, None),
        (0.05, 0.02, 10, None),
    ],
)
def test_the_noise_keeps_within_epsilon_and_wastes_none(
    target: float, rate: float, steps: int, expected: float | None
) -> None:
    noise = noise_multiplier(target, DELTA, rate, steps)
    assert epsilon([event(noise, rate, steps)], DELTA) <= target
    assert epsilon([event(noise * 0.9998, rate, steps)], DELTA) > target
    if expected is not None:
        assert noise == pytest.approx(expected, rel=3e-3)


@pytest.mark.parametrize("rate", [1.0, 0.5])
def test_an_epsilon_that_no_noise_reaches_is_refused(rate: float) -> None:
    with pytest.raises(UnreachableEpsilonError, match=r"0\.0001 .* over 1000000000000 steps"):
        noise_multiplier(1e-4, DELTA, rate, 10**12)


@given(events=full_events, cap=st.floats(0.1, 10))
def test_what_is_left_may_be_spent_and_no_more(events: list[MechanismEvent], cap: float) -> None:
    left = remaining(events, cap, DELTA)
    if not left:
        assert epsilon([*events, event(1e4)], DELTA) > cap * (1 - 1e-5)
        return
    spent = [*events, event(noise_multiplier(left, DELTA, 1.0, 60), steps=60)]
    assert cap * (1 - 1e-6) <= epsilon(spent, DELTA) <= cap


def test_what_is_left_beside_sampled_events() -> None:
    events = [event(20.0, 0.0263, 500), event(60.0, steps=60)]
    left = remaining(events, 1.0, DELTA)
    assert 0.5 < left < 1.0
    spent = [*events, event(noise_multiplier(left, DELTA, 1.0, 60), steps=60)]
    assert 0.995 < epsilon(spent, DELTA) <= 1.0


def test_a_spent_cap_leaves_nothing() -> None:
    assert remaining([event(28.9, steps=61)], 1.0, DELTA) == 0
    assert remaining([event(1.0, 0.1, 100)], 1.0, DELTA) == 0
    assert remaining([], 1.0, DELTA) == pytest.approx(1.0)


def test_replacing_a_row_costs_more() -> None:
    assert replace_one_epsilon([event(28.9, steps=60)], DELTA) == pytest.approx(2.15, abs=0.01)
    sampled = [event(3.0, 0.05, 100)]
    found = replace_one_epsilon(sampled, DELTA)
    single = found / 2
    # What group privacy asks for: the removal and the addition share delta.
    assert epsilon(sampled, DELTA / (1 + math.exp(single))) <= single
    assert 2 * epsilon(sampled, DELTA) < found < 3 * epsilon(sampled, DELTA)
    assert replace_one_epsilon([event(0.1, 0.5, 1000)], DELTA) == math.inf


def test_no_order_matters() -> None:
    events = [event(2.0, 0.1, 10), event(5.0, steps=3), event(1.5, 0.02, 20)]
    found = {round(epsilon(each, DELTA), 9) for each in itertools.permutations(events)}
    assert len(found) == 1

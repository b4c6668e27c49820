"""The whole protocol between honest sites, some of which drop out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_assets.privacy.masking.errors import ThresholdNotReachedError
from fl_assets.privacy.masking.roster import threshold_of
from fl_assets_tests.privacy.masking.play import BITS, Play, names, values_of

FIVE = names(5)


def off_by(play, values):
    found = play.result()
    assert not found.wrong
    plain = np.sum([values[name] for name in sorted(play.vectors)], axis=0)
    return np.abs(found.total - plain).max(), found.total


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_the_sum_is_the_plain_one_whoever_drops_out(data):
    sites = names(data.draw(st.integers(3, 9), label="sites"))
    bits = data.draw(st.sampled_from([8, 24, 32]), label="bits")
    threshold = data.draw(st.integers(len(sites) // 2 + 1, len(sites)), label="threshold")
    order = data.draw(st.permutations(sites), label="order")
    left = len(sites) - threshold
    cuts = sorted(data.draw(st.lists(st.integers(0, left), min_size=3, max_size=3), label="cuts"))
    before, during, after = (order[: cuts[0]], order[cuts[0] : cuts[1]], order[cuts[1] : cuts[2]])
    values = values_of(sites, data.draw(st.integers(1, 300), label="size"), seed=1)

    play = Play(sites, threshold, bits).advertise().share(before)
    play.mask(values, during).unmask(after)

    survivors = len(sites) - cuts[1]
    assert play.vectors.keys() == set(order[cuts[1] :])
    off, _ = off_by(play, values)
    # Each site's rounding, and that of the plain sum's own float64.
    assert off <= survivors * 2.0 ** -(bits + 1) + 1e-9


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("step", ["share", "mask", "unmask"])
def test_dropouts_of_five_are_recovered_at_every_step(number, step):
    away = {step: FIVE[1 : 1 + number]}
    values = values_of(FIVE, 40)
    play = Play(FIVE).advertise().share(away.get("share", ()))
    play.mask(values, away.get("mask", ())).unmask(away.get("unmask", ()))
    off, total = off_by(play, values)
    assert len(play.vectors) == (5 if step == "unmask" else 5 - number)
    assert off <= 5 * 2.0 ** -(BITS + 1)
    assert np.abs(total).max() > 100


def test_dropouts_at_different_steps_are_recovered():
    values = values_of(names(7), 40)
    play = Play(names(7), threshold=4).advertise().share([FIVE[0]])
    play.mask(values, [FIVE[1]]).unmask([FIVE[2]])
    off, _ = off_by(play, values)
    assert off <= 7 * 2.0 ** -(BITS + 1)


@pytest.mark.parametrize("step", ["share", "mask", "unmask"])
def test_below_the_threshold_the_round_fails_and_says_what_to_do(step):
    away = {step: FIVE[:3]}

    def rest():
        play.share(away.get("share", ()))
        play.mask(values_of(FIVE, 4), away.get("mask", ()))
        if step == "mask":
            play.result()
        play.unmask(away.get("unmask", ())).result()

    play = Play(FIVE).advertise()
    assert play.threshold == 3
    with pytest.raises(
        ThresholdNotReachedError, match=r"round 3: 2 sites .* below 3: .*secure_aggregation.thres"
    ):
        rest()


@pytest.mark.parametrize("bits", [8, 16])
def test_the_mean_is_off_by_at_most_the_stated_bound(bits):
    """m * 2^-(f+1) / N, m survivors with N rows together; and it is no looser than need be."""
    rows = dict(zip(names(4), (170, 140, 201, 35), strict=True))
    random = np.random.default_rng(5)
    updates = {name: random.normal(scale=0.1, size=20_000) for name in rows}
    values = {name: rows[name] * updates[name] for name in rows}
    play = Play(names(4), bits=bits).advertise().share().mask(values, [names(4)[3]]).unmask()

    counted = sorted(play.vectors)
    together = sum(rows[name] for name in counted)
    plain = np.average(
        [updates[name] for name in counted], axis=0, weights=[rows[name] for name in counted]
    )
    off = np.abs(play.result().total / together - plain).max()
    bound = len(counted) * 2.0 ** -(bits + 1) / together
    assert 0.7 * bound < off <= bound * (1 + 1e-9)


@pytest.mark.parametrize(
    ("fraction", "sites", "threshold"),
    [(0.6, 3, 2), (0.6, 5, 3), (0.7, 10, 7), (0.51, 3, 2), (1.0, 4, 4), (0.6, 50, 30)],
)
def test_the_threshold_is_the_rounded_up_fraction(fraction, sites, threshold):
    assert threshold_of(fraction, sites) == threshold

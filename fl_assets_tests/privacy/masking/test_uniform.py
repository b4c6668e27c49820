"""One masked vector tells nothing: it looks like uniform noise, and no update shows through."""

import random

import numpy as np
import pytest
from scipy import stats

from fl_assets.privacy.masking import keys
from fl_assets.privacy.masking.field import to_field
from fl_assets_tests.privacy.masking.play import BITS, SCOPE, Play, names, values_of

SIZE = 20_000
SITES = names(4)


def p_values(vector, values):
    """P-values under "uniform and independent of the values" of four tests."""
    data = vector.astype("<u8").tobytes()
    place = vector.astype(np.float64) / 2.0**64
    return {
        "bytes": stats.chisquare(np.bincount(np.frombuffer(data, np.uint8), minlength=256)).pvalue,
        "highest byte": stats.chisquare(np.bincount(vector >> np.uint64(56), minlength=256)).pvalue,
        "values": stats.kstest(place, "uniform").pvalue,
        "with the input": stats.spearmanr(place, values).pvalue,
    }


@pytest.fixture
def _same_secrets(monkeypatch):
    source = random.Random(11)
    monkeypatch.setattr(keys, "new_secret", lambda: source.randbytes(32))


@pytest.fixture
def values():
    return values_of(SITES, SIZE)


@pytest.mark.usefixtures("_same_secrets")
def test_a_masked_update_looks_uniform(values):
    play = Play(SITES).advertise().share().mask(values)
    for name in SITES:
        found = p_values(play.vectors[name], values[name])
        assert min(found.values()) > 1e-3, (name, found)


@pytest.mark.usefixtures("_same_secrets")
def test_two_rounds_of_the_same_update_have_nothing_in_common(values):
    first, second = (Play(SITES).advertise().share().mask(values) for _ in range(2))
    for name in SITES:
        difference = first.vectors[name] - second.vectors[name]
        assert min(p_values(difference, values[name]).values()) > 1e-3


def test_the_tests_see_an_update_that_is_not_masked(values):
    for name in SITES:
        found = p_values(to_field(values[name], 4, BITS), values[name])
        assert found["bytes"] < 1e-100
        assert found["highest byte"] < 1e-100
        assert found["values"] < 1e-100


def test_the_tests_see_a_weak_mask(values):
    """The same number on every value keeps the update's order."""
    plain = to_field(values[SITES[0]], 4, BITS)
    found = p_values(plain + np.uint64(2**62), values[SITES[0]])
    assert found["with the input"] < 1e-100


@pytest.mark.usefixtures("_same_secrets")
def test_pairwise_masks_whose_key_is_known_hide_nothing_without_the_personal_one(values):
    """Why there are two masks: a late vector of a site that was taken for dropped."""
    play = Play(SITES).advertise().share().mask(values)
    name = SITES[1]
    left = play.vectors[name].copy()
    for peer in set(SITES) - {name}:
        secret = keys.private_key(play.advertised[name].masking)
        seed = keys.mask_seed(secret, play.keys[peer].masking, SCOPE, name, peer)
        keys.add_mask(left, seed, peer, name)
    assert min(p_values(left, values[name]).values()) > 1e-3
    without = left - keys.mask(play.shared[name].seed, SIZE)
    assert p_values(without, values[name])["bytes"] < 1e-100
    np.testing.assert_array_equal(without, to_field(values[name], 4, BITS))

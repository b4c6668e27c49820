import itertools
import random

import pytest
import sympy

from fl_assets.privacy.masking.shamir import PRIME, SECRET_BYTES, SHARE_BYTES, join, split

SECRETS = [bytes(32), b"\xff" * 32, random.Random(1).randbytes(32)]


def polynomial_through(shares):
    """Coefficients by solving the linear system, which is not how the product does it."""
    places = sorted(shares)
    system = sympy.Matrix([[place**power for power in range(len(places))] for place in places])
    points = sympy.Matrix([int.from_bytes(shares[place]) for place in places])
    return [int(c) % PRIME for c in system.inv_mod(PRIME) * points]


def test_the_prime_is_the_smallest_above_every_secret():
    assert sympy.nextprime(2 ** (8 * SECRET_BYTES)) == PRIME < 2 ** (8 * SHARE_BYTES)


@pytest.mark.parametrize("secret", SECRETS)
def test_shares_are_points_of_a_polynomial_that_begins_with_the_secret(secret):
    shares = dict(enumerate(split(secret, 6, 4), start=1))
    first = polynomial_through({p: shares[p] for p in (1, 2, 3, 4)})
    assert first[0] == int.from_bytes(secret)
    assert first == polynomial_through({p: shares[p] for p in (2, 4, 5, 6)})
    assert len(set(first)) == 4


@pytest.mark.parametrize(("holders", "threshold"), [(3, 2), (5, 3), (6, 6), (4, 1)])
def test_any_enough_shares_give_the_secret(holders, threshold):
    for secret in SECRETS:
        shares = dict(enumerate(split(secret, holders, threshold), start=1))
        assert all(len(share) == SHARE_BYTES for share in shares.values())
        for places in itertools.combinations(shares, threshold):
            assert join({place: shares[place] for place in places}) == secret


def test_one_share_too_few_fits_every_secret():
    shares = dict(enumerate(split(SECRETS[2], 5, 3), start=1))
    known = {place: shares[place] for place in (2, 5)}
    for other in range(100):
        # A third point that makes it the secret: there is always one, so nothing is ruled out.
        first, *_ = polynomial_through({**known, 9: other.to_bytes(SHARE_BYTES)})
        assert join({**known, 9: other.to_bytes(SHARE_BYTES)}) in (
            None if first >= 2**256 else first.to_bytes(SECRET_BYTES),
        )
    assert join(known) != SECRETS[2]


def test_the_same_secret_is_never_split_alike():
    assert split(SECRETS[0], 3, 2) != split(SECRETS[0], 3, 2)


def test_shares_of_no_secret_give_none():
    assert join({1: (PRIME - 1).to_bytes(SHARE_BYTES)}) is None

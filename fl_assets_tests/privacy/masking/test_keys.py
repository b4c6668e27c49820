import numpy as np
import pytest

from fl_assets.privacy.masking import keys
from fl_assets.privacy.masking.errors import SealedShareError, WeakKeyError
from fl_assets.privacy.masking.keys import Scope

SCOPE = Scope("run", 3)
SECRETS = [keys.new_secret() for _ in range(3)]
A, B, C = map(keys.private_key, SECRETS)
OF_A, OF_B, OF_C = map(keys.public_key, SECRETS)
WEAK = [bytes(32), (1).to_bytes(32, "little"), b"short"]

# RFC 8439, appendix A.1, test vectors 1 and 2: key and nonce zero, block counters 0 and 1.
RFC_8439 = bytes.fromhex(
    "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
    "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586"
    "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed"
    "29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f"
)


def test_a_mask_is_the_key_stream_of_the_rfc():
    assert keys.mask(bytes(32), 16).astype("<u8").tobytes() == RFC_8439
    assert keys.mask(bytes(32), 3).astype("<u8").tobytes() == RFC_8439[:24]


def test_both_sides_have_the_same_seed_and_nobody_else():
    seed = keys.mask_seed(A, OF_B, SCOPE, "a", "b")
    assert seed == keys.mask_seed(B, OF_A, SCOPE, "b", "a")
    others = [
        keys.mask_seed(A, OF_C, SCOPE, "a", "b"),
        keys.mask_seed(C, OF_B, SCOPE, "a", "b"),
        keys.mask_seed(A, OF_B, SCOPE, "a", "c"),
        keys.mask_seed(A, OF_B, Scope("run", 4), "a", "b"),
        keys.mask_seed(A, OF_B, Scope("other", 3), "a", "b"),
    ]
    assert len({seed, *others}) == 6


def test_the_mask_that_one_adds_the_other_takes_away():
    total = np.arange(5, dtype=np.uint64)
    keys.add_mask(total, SECRETS[0], "a", "b")
    assert total.tolist() != list(range(5))
    keys.add_mask(total, SECRETS[0], "b", "a")
    assert total.tolist() == list(range(5))


def test_shares_are_sealed_for_one_site_and_never_alike():
    sealed = keys.seal(b"two shares", A, OF_B, SCOPE, "a", "b")
    assert len(sealed) == keys.sealed_length(10)
    assert sealed != keys.seal(b"two shares", A, OF_B, SCOPE, "a", "b")
    assert keys.unseal(sealed, B, OF_A, SCOPE, "b", "a") == b"two shares"


@pytest.mark.parametrize(
    ("secret", "key", "scope", "own", "peer"),
    [
        (B, OF_A, Scope("run", 4), "b", "a"),
        (B, OF_A, Scope("other", 3), "b", "a"),
        (B, OF_A, SCOPE, "b", "c"),
        (B, OF_A, SCOPE, "c", "a"),
        (B, OF_C, SCOPE, "b", "a"),
        (C, OF_A, SCOPE, "b", "a"),
        # Its own, sent back to the sender.
        (A, OF_B, SCOPE, "a", "b"),
    ],
    # Keys are random, and a test has the same name in every process.
    ids=[
        "another round",
        "another run",
        "from another",
        "for another",
        "of another's key",
        "with another's secret",
        "sent back",
    ],
)
def test_replayed_or_relabelled_shares_do_not_open(secret, key, scope, own, peer):
    sealed = keys.seal(b"two shares", A, OF_B, SCOPE, "a", "b")
    with pytest.raises(SealedShareError, match=r"replayed or relabelled.*new round"):
        keys.unseal(sealed, secret, key, scope, own, peer)


@pytest.mark.parametrize("place", [0, 11, 12, 30, -1])
def test_shares_with_one_bit_changed_do_not_open(place):
    sealed = bytearray(keys.seal(b"two shares", A, OF_B, SCOPE, "a", "b"))
    sealed[place] ^= 1
    for altered in (bytes(sealed), b"", bytes(sealed[:-1])):
        with pytest.raises(SealedShareError):
            keys.unseal(altered, B, OF_A, SCOPE, "b", "a")


@pytest.mark.parametrize("weak", WEAK)
def test_a_key_whose_agreements_are_known_is_refused(weak):
    assert keys.is_weak(weak)
    assert not keys.is_weak(OF_A)
    with pytest.raises(WeakKeyError, match="hospital-b"):
        keys.mask_seed(A, weak, SCOPE, "hospital-a", "hospital-b")


def test_a_digest_is_of_one_share_in_one_place():
    found = {
        keys.digest(share, scope, purpose, owner, holder)
        for share in (b"1", b"2")
        for scope in (SCOPE, Scope("run", 4))
        for purpose in keys.SHARED
        for owner in ("a", "b")
        for holder in ("a", "b")
    }
    assert len(found) == 32

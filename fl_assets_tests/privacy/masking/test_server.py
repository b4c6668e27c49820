"""What the server notices of sites that are wrong, and what it survives."""

import numpy as np
import pytest

from fl_assets.privacy.masking import keys, shamir
from fl_assets.privacy.masking.errors import (
    DuplicateKeyError,
    MalformedMessageError,
    MaskLeftError,
    ThresholdNotReachedError,
    UndealtSecretError,
    WeakKeyError,
)
from fl_assets.privacy.masking.roster import PublicKeys, threshold_of
from fl_assets.privacy.masking.server import ServerRound, check_keys
from fl_assets_tests.privacy.masking.play import BITS, SCOPE, Play, names, values_of

SITES = names(5)
VALUES = values_of(SITES, 60)


@pytest.fixture
def play():
    """A round in which the last of five dropped out after dealing."""
    return Play(SITES).advertise().share().mask(VALUES, [SITES[4]]).unmask()


def plain(*left_out):
    return np.sum([VALUES[name] for name in SITES if name not in left_out], axis=0)


def spoil(play, holder, *owners):
    for owner in owners or SITES:
        share = bytearray(play.revealed[holder][owner])
        share[-1] ^= 1
        play.revealed[holder][owner] = bytes(share)


def test_a_site_with_wrong_shares_is_named_and_does_no_harm(play):
    spoil(play, SITES[1])
    found = play.result()
    assert found.wrong == {SITES[1]: 5}
    np.testing.assert_allclose(found.total, plain(SITES[4]), atol=1e-8)


@pytest.mark.parametrize("instead", [b"", b"x", bytes(33), b"\xff" * 40])
def test_shares_that_are_none_do_no_harm(play, instead):
    play.revealed[SITES[0]] = dict.fromkeys(SITES, instead)
    np.testing.assert_allclose(play.result().total, plain(SITES[4]), atol=1e-8)


def test_absent_shares_do_no_harm(play):
    play.revealed[SITES[0]] = {}
    found = play.result()
    assert found.wrong == {SITES[0]: 5}
    np.testing.assert_allclose(found.total, plain(SITES[4]), atol=1e-8)


def test_a_share_of_the_other_secret_is_wrong(play):
    """A site that reveals both halves the wrong way round is noticed."""
    held = play.masked[SITES[0]].held
    play.revealed[SITES[0]] = {name: held[name][:33] for name in SITES[:4]}
    assert play.result().wrong[SITES[0]] == 5


def test_too_many_wrong_shares_of_one_secret_end_the_round(play):
    spoil(play, SITES[0], SITES[4])
    assert play.result().wrong == {SITES[0]: 1}
    spoil(play, SITES[1], SITES[4])
    with pytest.raises(
        ThresholdNotReachedError, match=rf"2 sites revealed a right share of {SITES[4]}'s.*below 3"
    ):
        play.result()


def test_what_strangers_reveal_is_not_looked_at(play):
    play.revealed["stranger"] = play.revealed[SITES[0]]
    assert play.result().wrong == {}


def test_a_dropped_site_that_dealt_another_key_is_named(monkeypatch):
    play, honest = Play(SITES).advertise(), shamir.split
    announced, dealt = play.advertised[SITES[4]].masking, keys.new_secret()

    def split(secret, holders, threshold):
        return honest(dealt if secret == announced else secret, holders, threshold)

    monkeypatch.setattr(shamir, "split", split)
    play.share().mask(VALUES, [SITES[4]]).unmask()
    with pytest.raises(UndealtSecretError, match=rf"{SITES[4]} dealt.*leave {SITES[4]} out"):
        play.result()


def test_shares_that_are_of_no_secret_are_named(monkeypatch):
    play = Play(SITES).advertise().share().mask(VALUES).unmask()
    monkeypatch.setattr(shamir, "join", lambda shares: None)
    with pytest.raises(UndealtSecretError, match=SITES[0]):
        play.result()


def test_a_vector_under_other_masks_is_noticed(play):
    play.vectors[SITES[2]] += keys.mask(keys.new_secret(), 60)
    with pytest.raises(MaskLeftError):
        play.result()


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.sealed.pop(SITES[1]),
        lambda d: d.sealed.update({"stranger": d.sealed[SITES[1]]}),
        lambda d: d.sealed.update({SITES[0]: d.sealed[SITES[1]]}),
        lambda d: d.sealed.update({SITES[1]: d.sealed[SITES[1]][:-1]}),
        lambda d: d.digests.pop(SITES[0]),
        lambda d: d.digests.update({SITES[1]: b"short"}),
    ],
)
def test_a_dealing_that_is_not_to_everybody_is_refused(change):
    play = Play(SITES).advertise()
    _, dealing = play.advertised[SITES[0]].share(play.keys, 3)
    assert play.server.check_dealing(SITES[0], dealing) is dealing
    change(dealing)
    with pytest.raises(MalformedMessageError, match=SITES[0]):
        play.server.check_dealing(SITES[0], dealing)


def test_keys_that_are_none_are_refused():
    good = keys.public_key(keys.new_secret())
    with pytest.raises(MalformedMessageError, match=r"hospital-a.*another length"):
        check_keys("hospital-a", PublicKeys(good, good + b"x"))
    with pytest.raises(WeakKeyError, match="hospital-a"):
        check_keys("hospital-a", PublicKeys(good, bytes(32)))


def test_the_server_begins_no_round_that_every_site_would_refuse():
    keys_ = Play(SITES).advertise().keys
    with pytest.raises(DuplicateKeyError):
        ServerRound(SCOPE, keys_ | {SITES[0]: keys_[SITES[1]]}, threshold_of(0.6, 5), BITS)


def test_the_routed_shares_are_each_receivers_own():
    play = Play(SITES).advertise().share([SITES[2]])
    assert play.sealed.keys() == set(SITES) - {SITES[2]}
    for receiver, sealed in play.sealed.items():
        assert sealed.keys() == play.sealed.keys() - {receiver}
        for dealer, share in sealed.items():
            assert share == play.dealings[dealer].sealed[receiver]

"""What a site refuses, whoever asks."""

import itertools
import json

import numpy as np
import pytest

from fl_assets.privacy.masking import keys
from fl_assets.privacy.masking.errors import (
    BothSeedsError,
    DuplicateKeyError,
    OtherSitesError,
    OutOfRangeError,
    OutOfTurnError,
    OwnKeyError,
    SealedShareError,
    ThresholdError,
    TooFewPeersError,
    TooFewSurvivorsError,
    WeakKeyError,
)
from fl_assets.privacy.masking.keys import Scope
from fl_assets.privacy.masking.roster import PublicKeys, threshold_of
from fl_assets.privacy.masking.site import Advertised, Masked, Shared, opened
from fl_assets_tests.privacy.masking.play import BITS, SCOPE, Play, names, values_of

SITES = names(5)
ME, PEER, OTHER = SITES[:3]


@pytest.fixture
def play():
    return Play(SITES).advertise()


@pytest.fixture
def dealt(play):
    return play.share()


@pytest.fixture
def masked(dealt):
    return dealt.mask(values_of(SITES, 4)).masked[ME]


def other_keys():
    return Advertised.begin(SCOPE, "x").public


@pytest.mark.parametrize(
    "mine", [None, other_keys(), PublicKeys(other_keys().masking, b""), PublicKeys(b"", b"")]
)
def test_its_own_key_must_be_on_the_list_as_it_is(play, mine):
    listed = {name: key for name, key in play.keys.items() if name != ME or mine is not None}
    if mine is not None:
        listed[ME] = mine
    with pytest.raises(OwnKeyError, match=rf"{ME} are missing or altered.*coordinator"):
        play.advertised[ME].share(listed, 3)


def test_half_of_its_own_key_exchanged_is_noticed(play):
    mine = play.keys[ME]
    for changed in (mine._replace(masking=keys.new_secret()), mine._replace(sealing=bytes(32))):
        with pytest.raises(OwnKeyError):
            play.advertised[ME].share(play.keys | {ME: changed}, 3)


@pytest.mark.parametrize("field", ["masking", "sealing"])
def test_a_key_that_stands_for_two_is_refused(play, field):
    copied = play.keys[OTHER]._replace(**{field: getattr(play.keys[PEER], field)})
    with pytest.raises(DuplicateKeyError, match=f"stands for {PEER}, {OTHER}"):
        play.advertised[ME].share(play.keys | {OTHER: copied}, 3)
    mine = play.keys[OTHER]._replace(**{field: getattr(play.keys[ME], field)})
    with pytest.raises(DuplicateKeyError):
        play.advertised[ME].share(play.keys | {OTHER: mine}, 3)


def test_a_key_that_gives_a_known_secret_is_refused(play):
    weak = play.keys[OTHER]._replace(sealing=bytes(32))
    with pytest.raises(WeakKeyError, match=OTHER):
        play.advertised[ME].share(play.keys | {OTHER: weak}, 3)


def test_a_round_of_two_is_refused(play):
    two = {name: play.keys[name] for name in (ME, PEER)}
    with pytest.raises(TooFewPeersError, match="has 2 sites, and masked sums need 3"):
        play.advertised[ME].share(two, 2)


@pytest.mark.parametrize("threshold", [-1, 0, 1, 2, 6])
def test_a_threshold_of_half_the_sites_or_less_is_refused(play, threshold):
    with pytest.raises(ThresholdError, match=f"threshold is {threshold} of 5"):
        play.advertised[ME].share(play.keys, threshold)


@pytest.mark.parametrize("sites", range(3, 9))
def test_above_half_no_split_view_gives_both_secrets(sites):
    """Whatever a server tells each site about another one, shares of one secret stay too few."""
    threshold = threshold_of(0.51, sites)
    for told in itertools.product((True, False), repeat=sites):
        assert min(sum(told), sites - sum(told)) < threshold
    # With half of the sites it would.
    assert any(
        min(sum(told), sites - sum(told)) >= sites // 2
        for told in itertools.product((True, False), repeat=sites)
    )


def test_changed_shares_are_refused(dealt):
    for place in (0, 40, -1):
        sealed = bytearray(dealt.sealed[ME][PEER])
        sealed[place] ^= 1
        with pytest.raises(SealedShareError, match=PEER):
            dealt.shared[ME].mask(dealt.sealed[ME] | {PEER: bytes(sealed)}, np.zeros(2), BITS)


def test_shares_in_another_sites_name_are_refused(dealt):
    mine = dealt.sealed[ME]
    swapped = mine | {PEER: mine[OTHER], OTHER: mine[PEER]}
    for sealed in (swapped, mine | {PEER: dealt.sealed[OTHER][PEER]}):
        with pytest.raises(SealedShareError):
            dealt.shared[ME].mask(sealed, np.zeros(2), BITS)


@pytest.mark.parametrize("scope", [SCOPE, Scope("run", 4), Scope("other", 3)])
def test_shares_of_another_round_are_refused(dealt, scope):
    before = Play(SITES, scope=scope).advertise().share()
    sealed = dealt.sealed[ME] | {PEER: before.sealed[ME][PEER]}
    with pytest.raises(SealedShareError):
        dealt.shared[ME].mask(sealed, np.zeros(2), BITS)


def test_sealed_bytes_that_are_no_shares_are_refused(dealt):
    sealing = keys.private_key(dealt.advertised[PEER].sealing)
    key = dealt.keys[ME].sealing
    sealed = keys.seal(b"something else", sealing, key, SCOPE, PEER, ME)
    with pytest.raises(SealedShareError, match="14 bytes in place of two shares"):
        dealt.shared[ME].mask(dealt.sealed[ME] | {PEER: sealed}, np.zeros(2), BITS)


def test_shares_of_strangers_or_of_too_few_are_refused(dealt):
    mine = dealt.sealed[ME]
    for sealed in (mine | {"stranger": mine[PEER]}, mine | {ME: mine[PEER]}, {PEER: mine[PEER]}):
        with pytest.raises(OtherSitesError):
            dealt.shared[ME].mask(sealed, np.zeros(2), BITS)


def test_values_out_of_range_do_not_leave(dealt):
    with pytest.raises(OutOfRangeError, match="1 of 3 values"):
        dealt.shared[ME].mask(dealt.sealed[ME], np.array([0.0, 1.0, 2.0**40]), BITS)


def test_a_coordinator_that_asks_for_both_seeds_is_refused(masked):
    with pytest.raises(BothSeedsError, match=rf"^{PEER} .*asks for both.*personal seed is refused"):
        masked.unmask(SITES, [PEER])


@pytest.mark.parametrize(
    ("survivors", "dropped"),
    [
        (SITES[:4], []),
        (SITES[:4], ["stranger"]),
        ([*SITES, "stranger"], []),
        ([*SITES, PEER], []),
        (SITES[:4], [SITES[4], SITES[4]]),
        (SITES[1:], [ME]),
        ([], []),
    ],
)
def test_lists_that_are_not_the_rounds_sites_are_refused(masked, survivors, dropped):
    with pytest.raises(OtherSitesError, match="not the 5 of round 3"):
        masked.unmask(survivors, dropped)


def test_too_few_survivors_are_not_unmasked(masked):
    with pytest.raises(TooFewSurvivorsError, match=r"2 survivors.*threshold is 3"):
        masked.unmask(SITES[:2], SITES[2:])


def test_what_it_reveals_is_one_share_of_each_site(dealt, masked):
    revealed = masked.unmask(SITES[:3], SITES[3:])
    assert revealed.keys() == set(SITES)
    assert all(len(share) == 33 for share in revealed.values())
    for name, share in revealed.items():
        masking, seed = masked.held[name][:33], masked.held[name][33:]
        assert share == (seed if name in SITES[:3] else masking)


def test_a_phase_comes_back_from_bytes(dealt, masked):
    phases = [(dealt.advertised[ME], Advertised), (dealt.shared[ME], Shared), (masked, Masked)]
    for phase, kind in phases:
        assert opened(phase.to_bytes(), kind, SCOPE) == phase


def test_each_request_is_answered_once_and_in_its_turn(dealt, masked):
    kept = {
        Advertised: dealt.advertised[ME].to_bytes(),
        Shared: dealt.shared[ME].to_bytes(),
        Masked: masked.to_bytes(),
    }
    for phase, other in itertools.permutations(kept, 2):
        with pytest.raises(OutOfTurnError, match=r"round 3.*answers each once"):
            opened(kept[phase], other, SCOPE)
    for phase, state in kept.items():
        with pytest.raises(OutOfTurnError):
            opened(None, phase, SCOPE)
        for scope in (Scope("run", 4), Scope("other", 3)):
            with pytest.raises(OutOfTurnError):
                opened(state, phase, scope)


def test_nothing_that_shows_a_phase_shows_its_secrets(dealt, masked):
    shown = "".join(map(repr, (dealt.advertised[ME], dealt.shared[ME], masked)))
    shared = dealt.shared[ME]
    for secret in (shared.masking, shared.sealing, shared.seed, shared.own, *masked.held.values()):
        # Long enough that no public key holds it by chance: shares begin with zeros.
        assert repr(secret[:16])[2:-1] not in shown


def test_after_masking_its_own_secrets_are_gone(dealt, masked):
    shared = dealt.shared[ME]
    before, after = (json.loads(phase.to_bytes()) for phase in (shared, masked))
    for secret in ("masking", "sealing", "seed"):
        assert before[secret]
        assert secret not in after
        assert before[secret] not in json.dumps(after)

"""The server's half of one round: it passes keys and shares on, and takes the masks off the sum."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fl_assets.privacy.masking import field, keys, shamir
from fl_assets.privacy.masking.errors import (
    MalformedMessageError,
    ThresholdNotReachedError,
    UndealtSecretError,
    WeakKeyError,
)
from fl_assets.privacy.masking.roster import Dealing, PublicKeys, check_roster, places

_DIGEST_BYTES = 32
_UPDATE_IT = "bring its software up to date"

Shares = Mapping[str, bytes]


class Unmasked(NamedTuple):
    """What a round gives.

    Attributes:
        total: sum of the survivors' vectors, [d].
        wrong: sites that revealed shares other than they were dealt; how many.
    """

    total: NDArray[np.float64]
    wrong: dict[str, int]


def check_keys(site: str, found: PublicKeys) -> PublicKeys:
    """Return a site's answer to step 0.

    Raises:
        MalformedMessageError, WeakKeyError: it is none.
    """
    if any(len(key) != keys.KEY_BYTES for key in found):
        raise MalformedMessageError(f"{site} sent public keys of another length: {_UPDATE_IT}")
    if any(keys.is_weak(key) for key in found):
        raise WeakKeyError(f"{site} sent a public key that protects nobody: {_UPDATE_IT}")
    return found


class ServerRound:
    """The server's half of a round after step 0.

    Args:
        scope: the round.
        peers: public keys of the sites that advertised.
        threshold: sites that must survive.
        fractional_bits: of the fixed-point numbers.

    Attributes:
        sites: that can still take part: those that advertised, after :meth:`route` those that
            dealt.

    Raises:
        TooFewPeersError, ThresholdError, DuplicateKeyError: no site would take part.
    """

    def __init__(
        self,
        scope: keys.Scope,
        peers: Mapping[str, PublicKeys],
        threshold: int,
        fractional_bits: int,
    ) -> None:
        check_roster(peers, threshold)
        self.sites = frozenset(peers)
        self._scope = scope
        self._peers = dict(peers)
        self._places = places(peers)
        self._threshold = threshold
        self._fractional_bits = fractional_bits
        self._dealings: dict[str, Dealing] = {}

    def check_dealing(self, site: str, dealing: Dealing) -> Dealing:
        """Return a site's answer to step 1.

        Raises:
            MalformedMessageError: it did not deal to everybody, or something else.
        """
        length = keys.sealed_length(2 * shamir.SHARE_BYTES)
        if not (
            dealing.sealed.keys() == self._peers.keys() - {site}
            and dealing.digests.keys() == self._peers.keys()
            and all(len(sealed) == length for sealed in dealing.sealed.values())
            and all(len(both) == 2 * _DIGEST_BYTES for both in dealing.digests.values())
        ):
            raise MalformedMessageError(
                f"{site} did not deal two shares to every site of the round: {_UPDATE_IT}"
            )
        return dealing

    def route(self, dealings: Mapping[str, Dealing]) -> dict[str, dict[str, bytes]]:
        """Return the sealed shares by receiver and dealer, among the sites that dealt.

        Raises:
            ThresholdNotReachedError: too few have.
        """
        self._require(len(dealings), "have dealt shares")
        self.sites = frozenset(dealings)
        self._dealings = dict(dealings)
        return {
            receiver: {d: dealings[d].sealed[receiver] for d in sorted(self.sites - {receiver})}
            for receiver in sorted(self.sites)
        }

    def dropped(self, survivors: Collection[str]) -> list[str]:
        """Return who dealt shares and delivered no vector.

        Raises:
            ThresholdNotReachedError: too few survived.
        """
        self._require(len(survivors), "delivered a masked vector")
        return sorted(self.sites - set(survivors))

    def unmask(
        self, vectors: Mapping[str, field.Masked], revealed: Mapping[str, Shares]
    ) -> Unmasked:
        """Take the masks off the sum of the survivors' vectors.

        Args:
            vectors: masked, by survivor, [d] each.
            revealed: answers to step 3, by site and owner of a share; wrong shares do no harm as
                long as enough are right.

        Raises:
            ThresholdNotReachedError: too few sites survived, or too few right shares of a secret.
            UndealtSecretError: a dropped site had not dealt its masking key.
            MaskLeftError: a site's vector is masked with other secrets than it dealt.
        """
        self.dropped(vectors)
        total = np.zeros(next(iter(vectors.values())).size, dtype=np.uint64)
        for vector in vectors.values():
            total += vector
        wrong: Counter[str] = Counter()
        for name in sorted(self.sites):
            right = self._right_shares(name, name in vectors, revealed, wrong)
            secret = self._secret(name, right)
            if name in vectors:
                total -= keys.mask(secret, total.size)
                continue
            if keys.public_key(secret) != self._peers[name].masking:
                raise _undealt(name)
            masking = keys.private_key(secret)
            for survivor in vectors:
                other = self._peers[survivor].masking
                seed = keys.mask_seed(masking, other, self._scope, name, survivor)
                # What the dropped site would have sent takes away what the survivor added.
                keys.add_mask(total, seed, name, survivor)
        return Unmasked(field.from_field(total, self._fractional_bits), dict(wrong))

    def _right_shares(
        self, owner: str, survived: bool, revealed: Mapping[str, Shares], wrong: Counter[str]
    ) -> dict[int, bytes]:
        """Return the shares of a site's secret that are those it dealt, by place."""
        right: dict[int, bytes] = {}
        which = int(survived)
        span = slice(which * _DIGEST_BYTES, (which + 1) * _DIGEST_BYTES)
        for holder in sorted(self.sites & revealed.keys()):
            share = revealed[holder].get(owner, b"")
            found = keys.digest(share, self._scope, keys.SHARED[which], owner, holder)
            if found == self._dealings[owner].digests[holder][span]:
                right[self._places[holder]] = share
            else:
                wrong[holder] += 1
        return right

    def _secret(self, owner: str, right: dict[int, bytes]) -> bytes:
        self._require(len(right), f"revealed a right share of {owner}'s secret")
        secret = shamir.join(dict(list(right.items())[: self._threshold]))
        if secret is None:
            raise _undealt(owner)
        return secret

    def _require(self, found: int, did: str) -> None:
        if found < self._threshold:
            raise ThresholdNotReachedError(
                f"round {self._scope.round}: {found} sites {did}, and the sum stays masked below "
                f"{self._threshold}: put right what the others failed at, or lower "
                "`secure_aggregation.threshold` in the recipe"
            )


def _undealt(name: str) -> UndealtSecretError:
    return UndealtSecretError(
        f"the shares that {name} dealt do not give the secret that it announced: leave {name} out, "
        f"or {_UPDATE_IT}"
    )

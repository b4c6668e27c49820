"""A site's half of one round: a phase per step, each of which is left once.

A phase can be kept as bytes between steps. They hold the site's secrets: for the site alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, TypeAdapter

from fl_assets.config import StrictModel
from fl_assets.privacy.masking import field, keys, shamir
from fl_assets.privacy.masking.errors import (
    BothSeedsError,
    OtherSitesError,
    OutOfTurnError,
    OwnKeyError,
    SealedShareError,
    TooFewSurvivorsError,
)
from fl_assets.privacy.masking.roster import Dealing, PublicKeys, check_roster, places

Secret = Annotated[bytes, Field(repr=False)]


class _Phase(StrictModel):
    """Where a site is in a round.

    Attributes:
        run, round, site: who and when.
    """

    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    run: str
    round: int
    site: str

    @property
    def scope(self) -> keys.Scope:
        """The round."""
        return keys.Scope(self.run, self.round)

    def to_bytes(self) -> bytes:
        """Return it for :func:`opened`."""
        return self.model_dump_json().encode()


class Masked(_Phase):
    """After step 2: the vector is out, and shares are kept for those who may drop out.

    Attributes:
        threshold: of the round.
        held: by owner, the site itself among them; its masking key's and its seed's share.
    """

    phase: Literal["masked"] = "masked"
    threshold: int
    held: Annotated[dict[str, bytes], Field(repr=False)]

    def unmask(self, survivors: Collection[str], dropped: Collection[str]) -> dict[str, bytes]:
        """Step 3: reveal each survivor's seed share and each dropped site's masking-key share.

        Raises:
            BothSeedsError: a site is named as both.
            OtherSitesError: together they are not the round's sites, or this one is not said to
                have survived.
            TooFewSurvivorsError: fewer than the threshold.
        """
        if both := sorted(set(survivors) & set(dropped)):
            raise BothSeedsError(
                f"{', '.join(both)} is named as a survivor and as dropped: a coordinator that asks "
                "for both a site's mask seed and its personal seed is refused, since with the two "
                "it reads that site's own update; see who runs the coordinator"
            )
        named = sorted([*survivors, *dropped])
        if named != sorted(self.held) or self.site not in survivors:
            raise OtherSitesError(
                f"{self.site} is asked to unmask {len(survivors)} survivors and {len(dropped)} "
                f"dropped sites, which are not the {len(self.held)} of round {self.round} with "
                "itself among the survivors: begin a new round"
            )
        if len(survivors) < self.threshold:
            raise TooFewSurvivorsError(
                f"{len(survivors)} survivors are to be unmasked in round {self.round} and the "
                f"threshold is {self.threshold}: wait for more sites, or lower "
                "`secure_aggregation.threshold` in the recipe"
            )
        cut = shamir.SHARE_BYTES
        revealed = {name: self.held[name][cut:] for name in survivors}
        return revealed | {name: self.held[name][:cut] for name in dropped}


class Shared(_Phase):
    """After step 1: the shares are dealt.

    Attributes:
        masking, sealing: secret keys.
        seed: the personal one.
        threshold: of the round.
        peers: public keys of all sites, this one among them.
        own: its shares of its own secrets.
    """

    phase: Literal["shared"] = "shared"
    masking: Secret
    sealing: Secret
    seed: Secret
    threshold: int
    peers: dict[str, PublicKeys]
    own: Secret

    def mask(
        self, sealed: Mapping[str, bytes], values: NDArray[np.float64], fractional_bits: int
    ) -> tuple[Masked, field.Masked]:
        """Step 2: return the vector under this site's own mask and one with every peer.

        Args:
            sealed: shares dealt to this site, by the sites that dealt; the others have dropped.
            values: [d].
            fractional_bits: of the fixed-point numbers.

        Raises:
            OtherSitesError: the dealers are not peers of the round, or fewer than its threshold.
            SealedShareError: a share does not decrypt.
            OutOfRangeError: a value does not fit.
        """
        if not sealed.keys() <= self.peers.keys() - {self.site}:
            raise OtherSitesError(
                f"{self.site} got shares of sites that are not its peers in round {self.round}: "
                "begin a new round"
            )
        if len(sealed) + 1 < self.threshold:
            raise OtherSitesError(
                f"{len(sealed) + 1} sites of round {self.round} have dealt shares and the "
                f"threshold is {self.threshold}: wait for more sites, or lower "
                "`secure_aggregation.threshold` in the recipe"
            )
        held = {self.site: self.own} | self._opened(sealed)
        total = field.to_field(values, len(self.peers), fractional_bits)
        total += keys.mask(self.seed, values.size)
        masking = keys.private_key(self.masking)
        for peer in sealed:
            key = self.peers[peer].masking
            seed = keys.mask_seed(masking, key, self.scope, self.site, peer)
            keys.add_mask(total, seed, self.site, peer)
        after = Masked(
            run=self.run, round=self.round, site=self.site, threshold=self.threshold, held=held
        )
        return after, total

    def _opened(self, sealed: Mapping[str, bytes]) -> dict[str, bytes]:
        sealing, found = keys.private_key(self.sealing), {}
        for peer, shares in sealed.items():
            key = self.peers[peer].sealing
            found[peer] = keys.unseal(shares, sealing, key, self.scope, self.site, peer)
            if len(found[peer]) != 2 * shamir.SHARE_BYTES:
                raise SealedShareError(
                    f"{peer} sealed {len(found[peer])} bytes in place of two shares: bring its "
                    "software up to date"
                )
        return found


class Advertised(_Phase):
    """After step 0: two key pairs, for this round alone.

    Attributes:
        masking, sealing: secret keys.
    """

    phase: Literal["advertised"] = "advertised"
    masking: Secret
    sealing: Secret

    @classmethod
    def begin(cls, scope: keys.Scope, site: str) -> Advertised:
        """Step 0: make new keys."""
        masking, sealing = keys.new_secret(), keys.new_secret()
        return cls(run=scope.run, round=scope.round, site=site, masking=masking, sealing=sealing)

    @property
    def public(self) -> PublicKeys:
        """What it advertises."""
        return PublicKeys(keys.public_key(self.masking), keys.public_key(self.sealing))

    def share(self, peers: Mapping[str, PublicKeys], threshold: int) -> tuple[Shared, Dealing]:
        """Step 1: choose a personal seed, and deal shares of it and of the masking key.

        Args:
            peers: public keys of all sites of the round, this one among them.
            threshold: sites whose shares give a secret.

        Raises:
            OwnKeyError: this site's keys are missing or altered.
            TooFewPeersError, ThresholdError, DuplicateKeyError, WeakKeyError: see there.
        """
        if peers.get(self.site) != self.public:
            raise OwnKeyError(
                f"the keys of {self.site} are missing or altered in the list of round "
                f"{self.round}: somebody else's stand in its place; see who runs the coordinator"
            )
        check_roster(peers, threshold)
        seed, sealing = keys.new_secret(), keys.private_key(self.sealing)
        secrets = (self.masking, seed)
        shares = zip(*(shamir.split(s, len(peers), threshold) for s in secrets), strict=True)
        dealt = dict(zip(places(peers), shares, strict=True))
        dealing = Dealing(
            sealed={
                name: keys.seal(
                    b"".join(pair), sealing, peers[name].sealing, self.scope, self.site, name
                )
                for name, pair in dealt.items()
                if name != self.site
            },
            digests={
                name: b"".join(
                    keys.digest(share, self.scope, purpose, self.site, name)
                    for share, purpose in zip(pair, keys.SHARED, strict=True)
                )
                for name, pair in dealt.items()
            },
        )
        after = Shared(
            **self.model_dump(exclude={"phase"}),
            seed=seed,
            threshold=threshold,
            peers=dict(peers),
            own=b"".join(dealt[self.site]),
        )
        return after, dealing


Phase = TypeVar("Phase", Advertised, Shared, Masked)

_ANY: TypeAdapter[Advertised | Shared | Masked] = TypeAdapter(
    Annotated[Advertised | Shared | Masked, Field(discriminator="phase")]
)


def opened(kept: bytes | None, expected: type[Phase], scope: keys.Scope) -> Phase:
    """Return the phase that a site has kept, where it is the one that a request needs.

    Args:
        kept: of ``to_bytes``; None where no round is open.
        expected: phase before the request's step.
        scope: the request's round.

    Raises:
        OutOfTurnError: it is another one.
    """
    found = None if kept is None else _ANY.validate_json(kept)
    if not isinstance(found, expected) or found.scope != scope:
        raise OutOfTurnError(
            f"a step of masked sums in round {scope.round} does not follow the one before it: a "
            "site answers each once, since two answers tell more than one; begin a new round"
        )
    return found

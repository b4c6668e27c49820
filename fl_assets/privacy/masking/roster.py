"""Who is in a round, and what its sites announce; the same for both sides."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from fl_assets.privacy.masking.errors import DuplicateKeyError, ThresholdError, TooFewPeersError

MINIMUM_SITES = 3
"""Of two sites each could take its own part from the sum and hold the other's."""


class PublicKeys(NamedTuple):
    """A site's two public keys of a round, 32 bytes each.

    Attributes:
        masking: of the secret from which its pairwise masks come.
        sealing: of the secret with which shares are sealed for it.
    """

    masking: bytes
    sealing: bytes


class Dealing(NamedTuple):
    """What a site deals in step 1.

    Attributes:
        sealed: by receiver; its share of the masking key and of the seed, which it alone can read.
        digests: by holder, the dealing site among them; of the same two shares, for the server to
            tell wrong ones by. Not in Bonawitz et al. 2017, where one wrong share spoils the sum.
    """

    sealed: dict[str, bytes]
    digests: dict[str, bytes]


def threshold_of(fraction: float, sites: int) -> int:
    """Return of how many sites a secret's shares are needed."""
    # Rounded, since 0.7 of 10 sites is 7.000000000000001 in floating point.
    return max(2, math.ceil(round(fraction * sites, 9)))


def places(sites: Iterable[str]) -> dict[str, int]:
    """Return the place of each site's shares, from 1 in the order of names."""
    return {name: place for place, name in enumerate(sorted(sites), start=1)}


def check_roster(keys: Mapping[str, PublicKeys], threshold: int) -> None:
    """Refuse a round that does not protect its sites.

    Raises:
        TooFewPeersError, ThresholdError, DuplicateKeyError: see there.
    """
    sites = len(keys)
    if sites < MINIMUM_SITES:
        raise TooFewPeersError(
            f"the round has {sites} sites, and masked sums need {MINIMUM_SITES}: bring hospitals "
            "in, or train without `secure_aggregation`"
        )
    if not sites < 2 * threshold <= 2 * sites:
        raise ThresholdError(
            f"the threshold is {threshold} of {sites} sites: it must be more than half of them, "
            "or a coordinator learns both secrets of a site from two halves of the others, and at "
            "most all; set `secure_aggregation.threshold` in the recipe to between 0.5 and 1"
        )
    if twice := duplicates(keys):
        raise DuplicateKeyError(
            f"the same public key stands for {', '.join(twice)}: a copy protects nobody; leave "
            "them out, and see who runs the coordinator"
        )


def duplicates(keys: Mapping[str, PublicKeys]) -> list[str]:
    """Return the sites with a public key that is somewhere else on the list as well."""
    every = [key for pair in keys.values() for key in pair]
    return sorted(name for name, pair in keys.items() if any(every.count(key) > 1 for key in pair))

"""Why a round of masked sums is refused or cannot be finished."""

from __future__ import annotations

from fl_assets.errors import FlAssetsError


class MaskingError(FlAssetsError):
    """A round of masked sums that a site refuses, or that the server cannot finish."""


class TooFewPeersError(MaskingError):
    """A round of so few sites that a sum of two tells each the other's part."""


class ThresholdError(MaskingError):
    """A threshold that protects nobody, or that no round can reach."""


class DuplicateKeyError(MaskingError):
    """A public key that several sites, or one site twice, claim to have."""


class OwnKeyError(MaskingError):
    """A list of public keys in which the site's own are missing or changed."""


class WeakKeyError(MaskingError):
    """A public key with which every agreement has the same known outcome."""


class OutOfTurnError(MaskingError):
    """A request that does not follow the one before it; each is answered once."""


class SealedShareError(MaskingError):
    """A share that was not sealed by the named site for this one in this round."""


class OtherSitesError(MaskingError):
    """A list of sites that does not fit the round's."""


class BothSeedsError(MaskingError):
    """A coordinator that asks for both secrets of a site, with which its vector is laid bare."""


class TooFewSurvivorsError(MaskingError):
    """So few survivors that unmasking them is not allowed."""


class OutOfRangeError(MaskingError):
    """Values that are too large for the fixed-point numbers, or none at all."""


class MalformedMessageError(MaskingError):
    """A message of the other side that is not of the form that the protocol has."""


class ThresholdNotReachedError(MaskingError):
    """So few sites are left, or so few of their shares are right, that the sum stays masked."""


class UndealtSecretError(MaskingError):
    """A site's shares do not give the secret that it announced."""


class MaskLeftError(MaskingError):
    """A sum that is still masked after every mask was taken away."""

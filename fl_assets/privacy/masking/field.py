"""Fixed-point numbers modulo 2^64, in which sums of masked vectors are exact."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fl_assets.privacy.masking.errors import MaskLeftError, OutOfRangeError

Masked = NDArray[np.uint64]

_HALF = 2.0**62
"""No sum of all sites' numbers is larger, which is half of what the signed numbers hold: one that
is still masked lies in the other half with probability 1/2 at every value."""


def limit(sites: int, fractional_bits: int) -> float:
    """Return the largest absolute value of one of so many sites, so that every sum fits."""
    return _HALF / sites / 2.0**fractional_bits


def to_field(values: NDArray[np.float64], sites: int, fractional_bits: int) -> Masked:
    """Round values to multiples of ``2^-fractional_bits``; each is off by at most half of one.

    Args:
        values: [d].
        sites: in whose sum they will be.
        fractional_bits: of the fixed-point numbers.

    Raises:
        OutOfRangeError: some are larger than :func:`limit`, or not finite.
    """
    bound = limit(sites, fractional_bits)
    if wrong := int(np.count_nonzero(~(np.abs(values) <= bound))):
        raise OutOfRangeError(
            f"{wrong} of {values.size} values are not finite or exceed {bound:.6g}, which is what "
            f"{sites} sites may have at {fractional_bits} fractional bits: lower the learning "
            "rate, or `secure_aggregation.fractional_bits` in the recipe"
        )
    return np.rint(values * 2.0**fractional_bits).astype(np.int64).view(np.uint64)


def from_field(total: Masked, fractional_bits: int) -> NDArray[np.float64]:
    """Return the sum, [d]; undoes :func:`to_field`.

    Raises:
        MaskLeftError: no sum of numbers within their limits is so large.
    """
    numbers = total.view(np.int64).astype(np.float64)
    if wrong := int(np.count_nonzero(np.abs(numbers) > _HALF)):
        raise MaskLeftError(
            f"{wrong} of {total.size} values of the sum are out of range, so a mask is left in it: "
            "a site masked its vector with other keys than it announced; see whose software is "
            "not up to date"
        )
    return numbers / 2.0**fractional_bits

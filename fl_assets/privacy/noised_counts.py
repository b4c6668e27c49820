"""The Gaussian mechanism on counts and bounded sums, and what may be made of its answer.

The accounting is the caller's. Whatever is computed from the answer alone costs nothing more
(post-processing, Dwork & Roth 2014, proposition 2.1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fl_assets.config import StrictModel
from fl_assets.learning.inputs import Floats
from fl_assets.learning.metrics import Ints

if TYPE_CHECKING:
    from fl_assets.privacy.noise import NoiseSource


class Noised(StrictModel):
    """That figures are noised, and how much.

    Attributes:
        epsilon, delta: of their release by itself, for adding or removing one patient.
        deviation: standard deviation of the noise on every count, in people.
    """

    epsilon: float
    delta: float
    deviation: float


def add_noise(
    exact: Floats, sensitivity: float, noise_multiplier: float, noise: NoiseSource
) -> Floats:
    """Return sums with Gaussian noise (Dwork & Roth 2014, appendix A).

    Args:
        exact: counts and bounded sums over patients, [k].
        sensitivity: the most that adding or removing one patient moves all of them, in L2 norm.
        noise_multiplier: standard deviation of the noise over the sensitivity.
        noise: where it comes from.

    Returns:
        [k], rounded to float32: the bits that this throws away could tell the sums (see
        :class:`fl_assets.privacy.noise.SecureNoise`).
    """
    drawn: Floats = noise.normal([len(exact)]).numpy()
    return (exact + sensitivity * noise_multiplier * drawn).astype(np.float32).astype(np.float64)


def whole(noised: Floats) -> Ints:
    """Return counts as people: whole numbers, none below zero."""
    return np.maximum(np.rint(noised), 0).astype(np.int64)


def onto_total(noised: Floats, total: float) -> Floats:
    """Return the nearest counts that are not negative and add up to ``total``.

    Cutting each at zero by itself would turn the noise of empty cells into people. Here all give
    up the same amount, which empties most of them again (Duchi et al. 2008, figure 1; "Norm-Sub"
    in Wang et al. 2020). Without noise it changes nothing.

    Args:
        noised: counts, [k] with k of at least 1.
        total: at least 0.
    """
    falling = np.sort(noised)[::-1]
    surplus = (np.cumsum(falling) - total) / np.arange(1, len(noised) + 1)
    # The first is always kept, but for a total of 0.
    kept = max(int(np.count_nonzero(falling > surplus)), 1)
    nearest: Floats = np.maximum(noised - surplus[kept - 1], 0.0)
    return nearest

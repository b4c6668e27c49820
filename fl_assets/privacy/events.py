"""What a mechanism did to the patients' rows, in the terms in which privacy is composed."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from fl_assets.config import StrictModel


class MechanismEvent(StrictModel):
    """Steps of a (Poisson-sampled) Gaussian mechanism, for adding or removing one row.

    Attributes:
        noise_multiplier: standard deviation of the noise over the L2 sensitivity of the sum.
        sampling_rate: probability of a row to be in a step; 1 is the plain Gaussian mechanism.
        steps: how often it ran, 0 for one that was reserved and never ran.
    """

    noise_multiplier: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    sampling_rate: Annotated[float, Field(gt=0, le=1)] = 1.0
    steps: Annotated[int, Field(ge=0)] = 1

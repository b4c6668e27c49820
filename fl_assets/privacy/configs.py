"""What a recipe may ask of privacy, without importing torch or Opacus."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from fl_assets.config import StrictModel

Epsilon = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]
Delta = Annotated[float, Field(gt=0, le=1e-2)]


class PrivacyConfig(StrictModel):
    """Record-level differential privacy of everything that a run releases (DP-SGD).

    The guarantee is per hospital, for adding or removing one patient's row, and total: over every
    step of every round (Abadi et al. 2016, algorithm 1).

    Attributes:
        epsilon, delta: of the whole run; the site computes its noise from them.
        clip: largest L2 norm of one row's gradient.
        sampling_rate: probability of a row to be in a step (Poisson sampling). 1 takes every row,
            and the steps compose exactly.
        steps: noised steps per round, in place of epochs and batches.
        minimum_rows: training rows below which a site refuses: too few drown in the noise, and
            the size of the cohort is public.
        evaluation_epsilon: released figures of validation and test rows are noised with so much
            epsilon each time, at the same delta; None withholds those of the training run.
    """

    epsilon: Epsilon
    delta: Delta = 1e-5
    clip: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    sampling_rate: Annotated[float, Field(gt=0, le=1)] = 1.0
    steps: Annotated[int, Field(ge=1, le=10_000)] = 1
    minimum_rows: Annotated[int, Field(ge=1)] = 100
    evaluation_epsilon: Epsilon | None = None


class SecureAggregationConfig(StrictModel):
    """Masked sums: the server learns the sum of a round's updates and no single one.

    Attributes:
        threshold: fraction of the round's sites that must survive it, and that would have to
            collude with the server to unmask another one; rounded up, at least 2.
        fractional_bits: of the fixed-point numbers modulo 2^64 in which updates travel.
    """

    threshold: Annotated[float, Field(gt=0.5, le=1)] = 0.6
    fractional_bits: Annotated[int, Field(ge=8, le=48)] = 32

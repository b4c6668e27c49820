"""The ``synthetic:`` section of a cohort: how each column is drawn, from a closed list."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from fl_assets.config import StrictModel

Effects = dict[str, dict[str | float, float]]
"""What each named column adds to a score, by its value.

A number's mapping holds knots: linear between them, constant beyond the outer ones. Any other
column's mapping holds values (1 and 0 for a flag or the label); a value not named adds 0.
"""

Decimals = Annotated[int, Field(ge=0, le=6)]


class Score(StrictModel):
    """A linear predictor: ``base`` plus the effects of columns drawn before.

    Attributes:
        base: the score where no effect applies.
        by: effects of other columns.
    """

    base: float = 0.0
    by: Effects = Field(default_factory=dict)


class Piece(StrictModel):
    """Equally likely values ``low, low + step, ..., high``, with ``step = 10 ** -decimals``.

    Attributes:
        low, high: both drawn, in the column's unit.
        weight: share of the rows, relative to the other pieces.
        decimals: of the drawn value.
    """

    low: float
    high: float
    weight: Annotated[float, Field(gt=0)]
    decimals: Decimals = 0

    @model_validator(mode="after")
    def _bounds_on_grid(self) -> Piece:
        _check_bounds(self.low, self.high, self.decimals)
        return self


class Piecewise(StrictModel):
    """A number with a piecewise uniform distribution."""

    kind: Literal["piecewise"]
    name: str
    pieces: Annotated[tuple[Piece, ...], Field(min_length=1)]

    @property
    def low(self) -> float:
        """Smallest value drawn."""
        return min(piece.low for piece in self.pieces)

    @property
    def high(self) -> float:
        """Largest value drawn."""
        return max(piece.high for piece in self.pieces)


class Mode(StrictModel):
    """One normal component of a mixture.

    Attributes:
        mean, sd: of the normal before truncation, in the column's unit.
        log_weight: logarithm of the component's weight relative to the others.
    """

    mean: Score
    sd: Score
    log_weight: Score = Score()

    @model_validator(mode="after")
    def _sd_is_positive(self) -> Mode:
        effects = self.sd.by.values()
        if self.sd.base + sum(min(0.0, *effect.values()) for effect in effects) <= 0:
            raise ValueError("sd may fall to 0 or below: raise its base above its negative effects")
        return self


class Mixture(StrictModel):
    """A number drawn from a mixture of normals, each truncated to ``[low, high]``.

    Degenerates to one truncated normal with a single mode.
    """

    kind: Literal["mixture"]
    name: str
    low: float
    high: float
    decimals: Decimals
    modes: Annotated[tuple[Mode, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _bounds_on_grid(self) -> Mixture:
        _check_bounds(self.low, self.high, self.decimals)
        return self


class Choice(StrictModel):
    """A category drawn by the softmax of one score per category."""

    kind: Literal["category"]
    name: str
    scores: dict[str, Score]


class Flag(StrictModel):
    """A 0/1 value, 1 with the logistic of the score."""

    kind: Literal["flag"]
    name: str
    score: Score


class Missing(StrictModel):
    """Values of a column replaced by a missing marker.

    Attributes:
        name: the column.
        marker: how the file spells a missing value.
        score: its logistic is the probability; may use every column and the label.
    """

    name: str
    marker: str
    score: Score


Generator = Annotated[Piecewise | Mixture | Choice | Flag, Field(discriminator="kind")]


class SyntheticRecipe(StrictModel):
    """How to draw a cohort.

    Attributes:
        columns: one generator per column, in the order of drawing: a score uses earlier ones.
        label: effects on the log-odds of the label. The intercept is solved for, so that the
            expected rate is the cohort's ``label.prevalence``.
        missing: applied last, so that missingness may depend on anything.
    """

    columns: tuple[Generator, ...]
    label: Effects
    missing: tuple[Missing, ...] = ()


def _check_bounds(low: float, high: float, decimals: int) -> None:
    if low > high:
        raise ValueError(f"low {low:g} must not be above high {high:g}")
    for bound in (low, high):
        if round(bound, decimals) != bound:
            raise ValueError(f"{bound} has more than {decimals} decimals")

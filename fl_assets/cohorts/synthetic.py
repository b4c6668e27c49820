"""Synthetic rows of a cohort, drawn from its recipe: no patient's row is behind any of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.random import Generator as Random
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, logit, ndtr, ndtri

from fl_assets.cohorts.spec import CohortSpec
from fl_assets.cohorts.synthetic_check import Values, value_lists
from fl_assets.cohorts.synthetic_spec import (
    Choice,
    Effects,
    Flag,
    Mixture,
    Piecewise,
    Score,
    SyntheticRecipe,
)
from fl_assets.errors import FlAssetsError

Floats = NDArray[np.float64]

CALIBRATION_ROWS = 100_000
CALIBRATION_SEED = 0
ID_SPREAD = 15  # ids are drawn from this many times as many numbers, so that they are no counter


class NoRecipeError(FlAssetsError):
    """The cohort does not say how to draw synthetic rows."""


def generate(spec: CohortSpec, rows: int = 5110, seed: int = 0) -> pd.DataFrame:
    """Draw rows of a cohort; :func:`fl_assets.cohorts.writer.write_file` makes a file of them.

    Args:
        spec: the cohort, with its ``synthetic`` recipe.
        rows: how many.
        seed: same seed and rows, same frame. The population is the same for every seed and size:
            the label's intercept is solved on rows of its own.

    Returns:
        ``[rows, len(spec.frame_columns)]``, all text: decimal numbers without trailing zeros, flags
        and label ``0`` or ``1``, categories by name, missing values by their marker, ids (and the
        keys of a cohort without ids) unique integers.

    Raises:
        NoRecipeError: the cohort has no ``synthetic`` section.
    """
    if spec.synthetic is None:
        raise NoRecipeError(
            f"cohort {spec.name} has no synthetic rows: give its YAML a synthetic section"
        )
    recipe = spec.synthetic
    random = np.random.default_rng(seed)
    ids = random.choice(ID_SPREAD * rows, size=rows, replace=False) + 1
    sample = _Sample(value_lists(spec), rows, random)
    sample.draw(recipe)
    risk = expit(sample.score(recipe.label, _solve_intercept(recipe, spec)))
    sample.columns[spec.label.column] = (random.random(rows) < risk).astype(np.float64)

    frame = pd.DataFrame({spec.key_column: _text(ids)})
    for name in spec.frame_columns[1:]:
        frame[name] = sample.text(name)
    for missing in recipe.missing:
        rate = expit(sample.score(missing.score.by, missing.score.base))
        frame.loc[random.random(rows) < rate, missing.name] = missing.marker
    return frame


class _Sample:
    """The columns drawn so far: numbers as they are, anything else as codes into its values."""

    def __init__(self, values: Values, rows: int, random: Random) -> None:
        self.values = values
        self.rows = rows
        self.random = random
        self.columns: dict[str, Floats] = {}

    def draw(self, recipe: SyntheticRecipe) -> None:
        for generator in recipe.columns:
            if isinstance(generator, Flag):
                rate = expit(self._score(generator.score))
                column = self.random.random(self.rows) < rate
            elif isinstance(generator, Choice):
                values = self.values[generator.name] or ()
                column = self._choose([generator.scores[str(value)] for value in values])
            elif isinstance(generator, Mixture):
                column = self._mixture(generator)
            else:
                column = self._piecewise(generator)
            self.columns[generator.name] = column.astype(np.float64)

    def score(self, effects: Effects, base: float) -> Floats:
        """Return ``base`` plus the effects, per row."""
        total = np.full(self.rows, base)
        for name, effect in effects.items():
            values = self.values[name]
            if values is None:
                knots = [float(knot) for knot in effect]
                total += np.interp(self.columns[name], knots, list(effect.values()))
            else:
                by_code = np.array([effect.get(value, 0.0) for value in values])
                total += by_code[self.columns[name].astype(np.intp)]
        return total

    def text(self, name: str) -> NDArray[Any]:
        """Return a column as the file spells it."""
        values = self.values[name]
        if values is None or isinstance(values[0], float):
            return _text(self.columns[name])
        return np.array(values, dtype=object)[self.columns[name].astype(np.intp)]

    def _score(self, score: Score) -> Floats:
        return self.score(score.by, score.base)

    def _choose(self, scores: list[Score]) -> NDArray[np.intp]:
        # The largest score plus standard Gumbel noise is a draw from the softmax of the scores.
        noisy = [self._score(score) + self.random.gumbel(size=self.rows) for score in scores]
        chosen: NDArray[np.intp] = np.argmax(noisy, axis=0)
        return chosen

    def _mixture(self, generator: Mixture) -> Floats:
        mode = self._choose([each.log_weight for each in generator.modes])
        mean = np.choose(mode, [self._score(each.mean) for each in generator.modes])
        sd = np.choose(mode, [self._score(each.sd) for each in generator.modes])
        # Truncation by inverting the distribution function: clipping would pile rows at the bounds.
        low, high = ndtr((generator.low - mean) / sd), ndtr((generator.high - mean) / sd)
        drawn: Floats = mean + sd * ndtri(low + (high - low) * self.random.random(self.rows))
        return drawn.clip(generator.low, generator.high).round(generator.decimals)

    def _piecewise(self, generator: Piecewise) -> Floats:
        pieces = generator.pieces
        weights = np.array([piece.weight for piece in pieces])
        piece = self.random.choice(len(pieces), size=self.rows, p=weights / weights.sum())
        grid = np.array([10.0**each.decimals for each in pieces])
        first = np.round([each.low for each in pieces] * grid)
        count = np.round([each.high for each in pieces] * grid) - first + 1
        steps = np.floor(self.random.random(self.rows) * count[piece])
        drawn: Floats = (first[piece] + steps) / grid[piece]
        return drawn


def _solve_intercept(recipe: SyntheticRecipe, spec: CohortSpec) -> float:
    sample = _Sample(value_lists(spec), CALIBRATION_ROWS, np.random.default_rng(CALIBRATION_SEED))
    sample.draw(recipe)
    score = sample.score(recipe.label, 0.0)
    target = spec.label.prevalence

    def excess(intercept: float) -> float:
        return float(expit(score + intercept).mean()) - target

    # With every row at the largest (smallest) score the rate would be at most (least) the target.
    wanted = float(logit(target))
    return float(brentq(excess, wanted - score.max() - 1e-6, wanted - score.min() + 1e-6))


def _text(numbers: NDArray[Any]) -> NDArray[Any]:
    # Few numbers are distinct: format each once.
    distinct, positions = np.unique(numbers, return_inverse=True)
    return np.array([f"{number:.12g}" for number in distinct], dtype=object)[positions]

"""The preprocessor: raw cohort columns to a feature matrix, the same at every site.

It is one JSON document. The ``public`` kind scales by the cohort's published clinical constants
and so tells nothing about the patients; the ``moments`` kind standardises by the mean and standard
deviation combined from the hospitals' profiles, and equals a fit on the pooled rows.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fl_assets.cohorts.spec import (
    Bins,
    CategoryColumn,
    CohortSpec,
    FlagColumn,
    MissingIndicator,
    NumberColumn,
    Product,
    Ratio,
)
from fl_assets.config import StrictModel
from fl_assets.errors import BadDataError, FlAssetsError

PreprocessorKind = Literal["public", "moments"]


class FeatureError(BadDataError):
    """Rows that the preprocessor cannot turn into features."""


class MomentsUnavailableError(FlAssetsError):
    """Too few people behind a column's moments for a preprocessor of kind ``moments``."""

    def __init__(self, column: str) -> None:
        super().__init__(
            f"no hospital releases the moments of {column!r} (fewer people than minimum_cell): "
            "use `preprocessor: public` in the recipe"
        )


class UnknownFeatureError(BadDataError):
    """A recipe weighs a feature that the cohort does not have."""

    def __init__(self, names: list[str], known: Iterable[str]) -> None:
        super().__init__(
            f"the recipe is for another cohort: its `features` name {', '.join(names)}, which this "
            f"one does not have. Leave `features` out, or choose from {', '.join(known)}"
        )


class Moments(StrictModel):
    """Power sums of one number column around a public origin, which keeps them accurate.

    Attributes:
        count: values present.
        origin: ``o``, the cohort's public centre of the column.
        total: sum of ``x - o``.
        total_squares: sum of ``(x - o)**2``.
    """

    count: int
    origin: float
    total: float
    total_squares: float

    @classmethod
    def of(cls, values: NDArray[np.float64], origin: float) -> Moments:
        """Compute the moments of ``values`` [n], which hold no NaN."""
        shifted = values - origin
        # As lists, which fsum goes through three times as fast as through arrays.
        total, squares = (math.fsum(x.tolist()) for x in (shifted, shifted * shifted))
        return cls(count=len(values), origin=origin, total=total, total_squares=squares)

    @property
    def mean(self) -> float:
        """Mean of the values."""
        return self.origin + self.total / self.count

    @property
    def deviation(self) -> float:
        """Population standard deviation; 1 for a constant column, as scikit-learn scales it."""
        mean_square = self.total_squares / self.count
        variance = mean_square - (self.total / self.count) ** 2
        # Relative, because what cancellation leaves of a constant column grows with its squares.
        return math.sqrt(variance) if variance > 1e-12 * mean_square else 1.0


def combine(parts: Iterable[Moments]) -> Moments | None:
    """Add up the moments of disjoint sets of rows; None of none. All share one origin."""
    kept = [part for part in parts if part.count]
    if not kept:
        return None
    return Moments(
        count=sum(part.count for part in kept),
        origin=kept[0].origin,
        total=math.fsum(part.total for part in kept),
        total_squares=math.fsum(part.total_squares for part in kept),
    )


class Scaling(StrictModel):
    """``(clip(x, low, high) - center) / scale``, with ``fill`` in place of a missing value."""

    low: float
    high: float
    center: float
    scale: float
    fill: float


class Preprocessor(StrictModel):
    """Everything needed to turn raw cohort columns into features.

    Attributes:
        kind: where the scaling constants come from.
        cohort: the cohort, with its categories and derived features.
        scalings: by number column.
        weights: by feature, by which its values are multiplied; the others are left out. All
            with weight 1 if None.
    """

    kind: PreprocessorKind
    cohort: CohortSpec
    scalings: dict[str, Scaling]
    weights: dict[str, float] | None = None

    @classmethod
    def public(cls, spec: CohortSpec) -> Preprocessor:
        """Scale by the cohort's public constants."""
        scalings = {}
        for column in spec.numbers:
            p = column.public
            fill = p.center if p.fill is None else p.fill
            scalings[column.name] = Scaling(
                low=p.low, high=p.high, center=p.center, scale=p.scale, fill=fill
            )
        return cls(kind="public", cohort=spec.contract, scalings=scalings)

    @classmethod
    def from_moments(cls, spec: CohortSpec, moments: Mapping[str, Moments | None]) -> Preprocessor:
        """Standardise by combined moments; a missing value becomes the mean.

        Raises:
            MomentsUnavailableError: a number column has none.
        """
        scalings = {}
        for column in spec.numbers:
            found = moments.get(column.name)
            if found is None:
                raise MomentsUnavailableError(column.name)
            low, high = column.range
            scalings[column.name] = Scaling(
                low=low, high=high, center=found.mean, scale=found.deviation, fill=found.mean
            )
        return cls(kind="moments", cohort=spec.contract, scalings=scalings)

    def weighted(self, weights: Mapping[str, float] | None) -> Preprocessor:
        """Return this preprocessor with the features of a recipe.

        Under differential privacy few features on a like scale are worth more than all of them:
        noise is added to every weight of the model, and clipping is by the norm of a whole row.

        Raises:
            UnknownFeatureError: there is no such feature.
        """
        if weights is None:
            return self
        names = self.model_copy(update={"weights": None}).feature_names
        if unknown := sorted(weights.keys() - set(names)):
            raise UnknownFeatureError(unknown, names)
        return self.model_copy(update={"weights": dict(weights)})

    @property
    def version(self) -> str:
        """Content hash, 12 hex digits."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]

    @property
    def feature_names(self) -> list[str]:
        """Names of the features, in the order of the matrix."""
        return list(self._columns_behind)

    @property
    def feature_groups(self) -> dict[str, tuple[int, ...]]:
        """Columns of the matrix by feature group of the cohort; each is in exactly one.

        A derived feature belongs where its first column does. The groups are in the order of their
        first features; one without any is left out.
        """
        group_of = {c: group for group, columns in self.cohort.groups.items() for c in columns}
        found: dict[str, tuple[int, ...]] = {}
        for index, column in enumerate(self._columns_behind.values()):
            group = group_of[column]
            found[group] = (*found.get(group, ()), index)
        return found

    @property
    def _columns_behind(self) -> dict[str, str]:
        """The column that each feature comes from, the first of several, by feature."""
        behind: dict[str, str] = {}
        for column in self.cohort.columns:
            if isinstance(column, CategoryColumn):
                behind |= {f"{column.name}={c}": column.name for c in column.coded}
            else:
                behind[column.name] = column.name
        for derived in self.cohort.derived:
            source = derived.of if isinstance(derived.of, str) else derived.of[0]
            # A product may be of a feature, a missing indicator of a column that is none.
            column_name = behind.get(source, source)
            if isinstance(derived, Bins):
                names = [f"{derived.name}[{low:g},{high:g})" for low, high in _pairs(derived)]
            else:
                names = [derived.name]
            behind |= dict.fromkeys(names, column_name)
        weights = self.weights
        return behind if weights is None else {n: c for n, c in behind.items() if n in weights}

    def transform(self, frame: pd.DataFrame) -> NDArray[np.float32]:
        """Turn rows into features.

        Args:
            frame: the cohort's feature columns, n rows; numbers may be of any numeric type, a
                missing value is NaN or None. Other columns are left alone.

        Returns:
            Matrix [n, len(feature_names)] of finite float32.

        Raises:
            FeatureError: a column is missing, no number, a flag other than 0 and 1, of an unknown
                category or, where it may not be, empty. Names the column and the number of rows,
                never a value.
        """
        features: dict[str, NDArray[np.float64]] = {}
        for column in self.cohort.columns:
            features |= self._column_features(column, _take(frame, column.name))
        for derived in self.cohort.derived:
            features |= _derived_features(derived, features, frame)
        if self.weights is not None:
            features = {n: x * self.weights[n] for n, x in features.items() if n in self.weights}
        if not features:
            return np.empty((len(frame), 0), dtype=np.float32)
        return np.column_stack(list(features.values())).astype(np.float32)

    def _column_features(
        self, column: NumberColumn | CategoryColumn | FlagColumn, values: pd.Series[Any]
    ) -> dict[str, NDArray[np.float64]]:
        missing = values.isna().to_numpy()
        if not column.nullable and missing.any():
            raise FeatureError(f"column {column.name!r} is empty in {missing.sum()} rows; fill it")
        if isinstance(column, CategoryColumn):
            strange = ~values.isin(column.categories).to_numpy() & ~missing
            if strange.any():
                raise FeatureError(
                    f"column {column.name!r} has an unknown category in {strange.sum()} rows; "
                    f"allowed are {', '.join(column.categories)}"
                )
            return {
                f"{column.name}={category}": (values == category).to_numpy().astype(np.float64)
                for category in column.coded
            }
        numbers = _numbers(values, column.name)
        if isinstance(column, FlagColumn):
            flags = np.nan_to_num(numbers)
            strange = ~np.isin(flags, (0.0, 1.0))
            if strange.any():
                raise FeatureError(
                    f"column {column.name!r} is neither 0 nor 1 in {strange.sum()} rows"
                )
            return {column.name: flags}
        s = self.scalings[column.name]
        filled = np.where(np.isnan(numbers), s.fill, numbers)
        return {column.name: (np.clip(filled, s.low, s.high) - s.center) / s.scale}


def _take(frame: pd.DataFrame, name: str) -> pd.Series[Any]:
    if name not in frame.columns:
        raise FeatureError(f"column {name!r} is missing; send every column of the cohort")
    return frame[name]


def _numbers(values: pd.Series[Any], name: str) -> NDArray[np.float64]:
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=np.float64)
    wrong = ~np.isfinite(numbers) & ~values.isna().to_numpy()
    if wrong.any():
        raise FeatureError(f"column {name!r} is not a number in {wrong.sum()} rows")
    return numbers


def _pairs(bins: Bins) -> Iterable[tuple[float, float]]:
    return zip(bins.edges, bins.edges[1:], strict=False)


def _derived_features(
    derived: MissingIndicator | Bins | Product | Ratio,
    features: Mapping[str, NDArray[np.float64]],
    frame: pd.DataFrame,
) -> dict[str, NDArray[np.float64]]:
    if isinstance(derived, Product):
        left, right = derived.of
        return {derived.name: features[left] * features[right]}
    if isinstance(derived, MissingIndicator):
        return {derived.name: frame[derived.of].isna().to_numpy().astype(np.float64)}
    if isinstance(derived, Bins):
        values = _numbers(frame[derived.of], derived.of)
        return {
            f"{derived.name}[{low:g},{high:g})": ((values >= low) & (values < high)).astype(float)
            for low, high in _pairs(derived)
        }
    top, bottom = (_numbers(frame[name], name) for name in derived.of)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = top / bottom / derived.scale
    return {derived.name: np.where(np.isfinite(ratio), ratio, 0.0)}

"""What the distinct texts of one column mean, so that rows are checked by lookup."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from fl_assets.cohorts.spec import CategoryColumn, CohortSpec, NumberColumn

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

CATEGORY = pa.dictionary(pa.int32(), pa.string())


class ColumnMeanings:
    """The typed values of one column's texts, and which of them fit the contract.

    Attributes:
        categories: names that category codes stand for; none in another column.

    Args:
        spec: the cohort.
        name: of a feature column or the label.
    """

    def __init__(self, spec: CohortSpec, name: str) -> None:
        column = None if name == spec.label.column else spec.column(name)
        self._coding = spec.coding(name)
        self._nullable = column is not None and column.nullable
        self._range = column.range if isinstance(column, NumberColumn) else None
        self.categories: tuple[str, ...] = ()
        if isinstance(column, CategoryColumn):
            self.categories = column.categories
        self._codes = {category: code for code, category in enumerate(self.categories)}
        markers = pd.to_numeric(np.array([*self._coding.missing], object), errors="coerce")
        self._markers = markers[np.isfinite(markers.astype(float))].astype(float)

    def apply(self, column: pa.DictionaryArray) -> tuple[pa.Array, Bools]:
        """Return typed values [n], and which rows [n] plainly fit.

        Values of rows that do not mean nothing.
        """
        texts = [text.strip() for text in column.dictionary.to_pylist()]
        values, missing = self._values(texts)
        fits = np.where(missing, self._nullable, self._fitting(values))
        # One more entry, for a row without a text.
        place = column.indices.fill_null(len(texts)).to_numpy()
        values, missing, fits = (
            np.append(values, 0)[place],
            np.append(missing, True)[place],
            np.append(fits, False)[place],
        )
        return self._typed(np.where(fits & ~missing, values, 0), missing), fits

    def _values(self, texts: Sequence[str]) -> tuple[Floats, Bools]:
        """Return what each text stands for, as a number, and which stand for a missing value."""
        if self._range is not None:
            return self._numbers(texts)
        meanings = [self._coding.canonical(text) for text in texts]
        missing = np.array([meaning is None for meaning in meanings], bool)
        if self.categories:
            codes = [self._codes.get(meaning, np.nan) for meaning in meanings]  # type: ignore[arg-type]
            return np.array(codes, float), missing
        return _to_numbers(meanings), missing

    def _numbers(self, texts: Sequence[str]) -> tuple[Floats, Bools]:
        values = _to_numbers(texts)
        missing = np.zeros(len(texts), bool)
        # A marker may be a number, in any of its spellings.
        for place in np.flatnonzero(~np.isfinite(values) | np.isin(values, self._markers)):
            missing[place] = self._coding.canonical(texts[int(place)]) is None
        return values, missing

    def _fitting(self, values: Floats) -> Bools:
        if self._range is not None:
            low, high = self._range
            fits: Bools = (low <= values) & (values <= high) & np.isfinite(values)
            return fits
        return ~np.isnan(values) if self.categories else np.isin(values, (0.0, 1.0))

    def _typed(self, values: Floats, missing: Bools) -> pa.Array:
        if self.categories:
            codes = pa.array(values.astype(np.int32), mask=missing)
            return pa.DictionaryArray.from_arrays(codes, pa.array(self.categories))
        if self._range is None and not self._nullable:
            return pa.array(values.astype(np.int8))
        return pa.array(values, mask=missing)


def _to_numbers(texts: Sequence[str | None]) -> Floats:
    """Parse texts as the contract does."""
    found: Floats = np.asarray(pd.to_numeric(np.array(texts, object), errors="coerce"), float)
    return found

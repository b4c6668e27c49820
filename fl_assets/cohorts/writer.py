"""Rows as the cohort's data files hold them: the opposite of reading."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.random import Generator as Random
from numpy.typing import NDArray

from fl_assets.cohorts.columns import BinaryValue
from fl_assets.cohorts.spec import CategoryColumn, CohortSpec


def write_file(frame: pd.DataFrame, spec: CohortSpec, random: Random | None = None) -> bytes:
    """Return rows as a CSV of the cohort.

    Args:
        frame: ``spec.file_columns`` at least, canonical: numbers, flags and label as numbers or
            their text, categories by name, missing values as None, NaN or by their marker.
        spec: the cohort, which says how values are spelt, and whether there is a header.
        random: chooses among several spellings; the first of each without it.
    """
    spelt = pd.DataFrame(
        {name: _spelt(frame[name], spec, name, random) for name in spec.file_columns}
    )
    if not spec.header and spec.file_order:
        spelt = spelt[list(spec.file_order)]
    text = spelt.to_csv(
        index=False, header=spec.header, na_rep=spec.missing_markers[0], lineterminator="\n"
    )
    return text.encode()


def _spelt(
    values: pd.Series[Any], spec: CohortSpec, name: str, random: Random | None
) -> pd.Series[Any]:
    column = next((c for c in spec.columns if c.name == name), None)
    value = spec.label if name == spec.label.column else column
    found = values.copy()
    if isinstance(value, BinaryValue) and value.coded:
        numbers = pd.to_numeric(values, errors="coerce")
        found = found.astype(object)
        found[numbers == 1] = _chosen(value.positive, int((numbers == 1).sum()), random)
        found[numbers == 0] = _chosen(value.negative, int((numbers == 0).sum()), random)
    elif isinstance(value, CategoryColumn) and value.codes:
        codes = {category: texts[-1] for category, texts in value.spellings.items()}
        found = values.map(codes).where(values.isin(list(codes)), values)
    return found


def _chosen(texts: tuple[str, ...], count: int, random: Random | None) -> NDArray[Any]:
    places = np.zeros(count, int) if random is None else random.integers(len(texts), size=count)
    return np.array(texts, dtype=object)[places]

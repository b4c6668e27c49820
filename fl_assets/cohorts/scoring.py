"""Reading a file of patients to be scored: the cohort's feature columns, with or without label."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fl_assets.cohorts.reader import PROBLEM, read_rows
from fl_assets.cohorts.spec import CategoryColumn, CohortSpec
from fl_assets.errors import BadDataError


class ScoringFileError(BadDataError):
    """A file whose rows cannot all be scored."""


def read_features(data: bytes, spec: CohortSpec, name: str) -> pd.DataFrame:
    """Read rows to be scored.

    Args:
        data: a delimited file with a header that names the feature columns; id and label may be
            there or not.
        spec: the cohort.
        name: of the file, for messages.

    Returns:
        The columns that are there, a row per row of the file: id as text, categories as text with
        None for missing, everything else as float64 with NaN for missing.

    Raises:
        ScoringFileError: a row of another shape, or a field that is no number. Counts only.
        BadDataError: as :func:`fl_assets.cohorts.reader.read_rows`.
    """
    raw = read_rows(data, spec, name, optional=(spec.key_column, spec.label.column))
    misshapen = int(raw[PROBLEM].notna().sum())
    if misshapen:
        raise ScoringFileError(f"{name}: {misshapen} rows have another number of fields")
    frame = pd.DataFrame(index=raw.index)
    texts = {c.name for c in spec.columns if isinstance(c, CategoryColumn)} | {spec.key_column}
    for column in (c for c in spec.file_columns if c in raw):
        values = spec.coding(column).apply(raw[column])
        if column in texts:
            frame[column] = values
            continue
        frame[column] = pd.to_numeric(values, errors="coerce").astype(float)
        wrong = int((~np.isfinite(frame[column]) & values.notna()).sum())
        if wrong:
            raise ScoringFileError(f"{name}: column {column!r} is not a number in {wrong} rows")
    return frame

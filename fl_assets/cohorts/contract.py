"""The contract of a cohort: raw text rows in; typed rows, quarantine and duplicates out."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fl_assets.cohorts.reader import LINE, PROBLEM
from fl_assets.cohorts.spec import CategoryColumn, CohortSpec, FlagColumn, NumberColumn
from fl_assets.cohorts.spellings import UNKNOWN

if TYPE_CHECKING:
    import pandera.pandas as pa

REASON = "_reason"
_DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+")


@dataclass(frozen=True)
class Counts:
    """Where the rows went. ``rows_in = accepted + quarantined + duplicates`` or it is a bug.

    Attributes:
        rows_in: rows read.
        accepted: rows that fit and are the latest of their id.
        quarantined: rows that do not fit.
        duplicates: rows that fit but were superseded by a later row of the same id.
    """

    rows_in: int
    accepted: int
    quarantined: int
    duplicates: int

    @property
    def reconciled(self) -> bool:
        """Whether every row is accounted for."""
        return self.rows_in == self.accepted + self.quarantined + self.duplicates


@dataclass(frozen=True)
class Checked:
    """The outcome of a contract check.

    Attributes:
        accepted: typed rows, see :func:`check_rows`.
        quarantine: the raw rows that do not fit, with every reason in ``_reason``.
        duplicates: the raw rows superseded by a later one of the same id.
    """

    accepted: pd.DataFrame
    quarantine: pd.DataFrame
    duplicates: pd.DataFrame

    @property
    def counts(self) -> Counts:
        """Row counts."""
        accepted, quarantined = len(self.accepted), len(self.quarantine)
        duplicates = len(self.duplicates)
        return Counts(accepted + quarantined + duplicates, accepted, quarantined, duplicates)

    @property
    def reasons(self) -> dict[str, int]:
        """How many rows each reason holds back; a row may have several."""
        return count_reasons(self.quarantine)

    def lines(self, reason: str) -> list[int]:
        """Return the lines of the rows that a reason holds back."""
        held = [reason in reasons.split("; ") for reasons in self.quarantine[REASON]]
        return [int(line) for line in self.quarantine[LINE][held]]


def count_reasons(quarantine: pd.DataFrame) -> dict[str, int]:
    """Count the reasons of a quarantine, most frequent first."""
    counted = Counter(reason for reasons in quarantine[REASON] for reason in reasons.split("; "))
    return dict(counted.most_common())


def build_schema(spec: CohortSpec) -> pa.DataFrameSchema:
    """Return the pandera schema that typed rows of the cohort must pass."""
    import pandera.pandas as pa

    columns: dict[str, pa.Column] = {spec.key_column: pa.Column(object)}
    for column in spec.columns:
        if isinstance(column, NumberColumn):
            low, high = column.range
            checks = [pa.Check.in_range(low, high, error=f"outside {low:g} to {high:g}")]
            columns[column.name] = pa.Column(float, checks, nullable=column.nullable)
        elif isinstance(column, CategoryColumn):
            check = pa.Check.isin(column.categories, error="not an allowed category")
            columns[column.name] = pa.Column(object, check, nullable=column.nullable)
        else:
            columns[column.name] = pa.Column(float, _flag_check(), nullable=column.nullable)
    columns[spec.label.column] = pa.Column(float, _flag_check())
    return pa.DataFrameSchema(columns, strict=True, name=spec.name)


def _flag_check() -> pa.Check:
    import pandera.pandas as pa

    return pa.Check.isin([0.0, 1.0], error="neither 0 nor 1")


def check_rows(raw: pd.DataFrame, spec: CohortSpec) -> Checked:
    """Check raw text rows, as :func:`fl_assets.cohorts.reader.read_rows` returns them.

    A row with any fault goes to quarantine with all its reasons. Of the rows that fit, the last
    one of an id is accepted and the earlier ones are duplicates.

    Returns:
        Accepted rows have ``spec.frame_columns``: the key as text, numbers as float64 with NaN for
        missing, categories by name, flags and label as int8 (a nullable flag as float64), in the
        order of the input with a fresh index. Quarantine and duplicates keep the columns of
        ``raw``. A reason names a column and a rule, never a value.
    """
    raw = raw.reset_index(drop=True)
    fit, quarantine = judge_rows(raw, spec)
    # A bad row supersedes nothing, so the last of an id is looked for among the rows that fit.
    superseded = fit[spec.key_column].duplicated(keep="last")
    return Checked(
        fit[~superseded].reset_index(drop=True),
        quarantine,
        raw.loc[fit.index[superseded]].reset_index(drop=True),
    )


def judge_rows(raw: pd.DataFrame, spec: CohortSpec) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tell raw rows that fit from those that do not, each by itself.

    Args:
        raw: with an index of its own for every row.
        spec: the cohort.

    Returns:
        The rows that fit, typed, with their index in ``raw``; the quarantine.
    """
    misshapen = raw[PROBLEM].dropna()
    reasons = {index: [str(misshapen[index])] for index in misshapen.index.tolist()}
    well_formed = raw[raw[PROBLEM].isna()]
    typed, type_faults = _to_types(well_formed, spec)
    faults = type_faults | _contract_faults(typed, spec, known=type_faults)
    for (index, _column), reason in sorted(faults.items()):
        reasons.setdefault(index, []).append(reason)
    bad = raw.index.isin(list(reasons))
    quarantine = raw[bad].assign(**{REASON: ["; ".join(reasons[int(i)]) for i in raw.index[bad]]})
    fit = typed[~typed.index.isin(list(reasons))]
    return _final_types(fit, spec), quarantine.reset_index(drop=True)


def _to_types(
    raw: pd.DataFrame, spec: CohortSpec
) -> tuple[pd.DataFrame, dict[tuple[int, str], str]]:
    """Parse text to numbers; report what is missing where it may not be, or is no number."""
    typed: dict[str, pd.Series[Any]] = {}
    faults: dict[tuple[int, str], str] = {}
    columns = {column.name: column for column in spec.columns}
    for name in spec.frame_columns:
        column = columns.get(name)
        text = raw[name]
        values = spec.coding(name).apply(text)
        missing = values.isna()
        if name == spec.key_column or isinstance(column, CategoryColumn):
            typed[name] = values
        else:
            numbers = pd.to_numeric(values, errors="coerce").astype(float)
            wrong = (numbers.isna() & ~missing) | np.isinf(numbers)
            faults |= {
                (int(i), name): f"{name}: {_why_no_number(spelt, value)}"
                for i, spelt, value in zip(
                    text.index[wrong], text[wrong], values[wrong], strict=True
                )
            }
            typed[name] = numbers
        if column is None or not column.nullable:
            faults |= {(int(i), name): f"{name}: missing" for i in text.index[missing]}
    return pd.DataFrame(typed, index=raw.index), faults


def _why_no_number(text: str, value: str) -> str:
    if value == UNKNOWN:
        return "not a known code"
    return "decimal comma" if _DECIMAL_COMMA.fullmatch(text) else "not a number"


def _contract_faults(
    typed: pd.DataFrame, spec: CohortSpec, known: dict[tuple[int, str], str]
) -> dict[tuple[int, str], str]:
    """Return what the pandera contract finds, where a type fault does not explain it already."""
    from pandera.errors import SchemaErrors

    try:
        build_schema(spec).validate(typed, lazy=True)
    except SchemaErrors as found:
        cases = found.failure_cases.itertuples()
        keyed = {(int(case.index), str(case.column)): str(case.check) for case in cases}
        return {
            (index, column): f"{column}: {check}"
            for (index, column), check in keyed.items()
            if (index, column) not in known
        }
    return {}


def _final_types(accepted: pd.DataFrame, spec: CohortSpec) -> pd.DataFrame:
    whole = [c.name for c in spec.columns if isinstance(c, FlagColumn) and not c.nullable]
    return accepted.astype(dict.fromkeys([*whole, spec.label.column], "int8"))

"""Which column is where in a file: by its header, or by the cohort's order where it has none."""

from __future__ import annotations

import string
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from fl_assets.cohorts.delimited import DELIMITERS, Delimited
from fl_assets.cohorts.spec import CohortSpec
from fl_assets.errors import BadDataError


class HeaderError(BadDataError):
    """A file that does not hold the cohort's columns, each once."""


@dataclass(frozen=True)
class Layout:
    """How a delimited file is laid out.

    Attributes:
        delimiter: between fields.
        columns: their names in the order of the file.
        named: whether the first record names them.
    """

    delimiter: str
    columns: tuple[str, ...]
    named: bool


def find_layout(
    table: Delimited, spec: CohortSpec, name: str, optional: Collection[str] = ()
) -> Layout | None:
    """Find the delimiter and the columns of a file; None where it has no line with text.

    A file of a cohort without headers may have one all the same.

    Raises:
        HeaderError: the header does not name the cohort's columns, or no line has as many fields
            as the cohort's files.
    """
    sample = table.sample()
    if not sample:
        return None
    wanted = set(spec.file_columns)

    def columns_named(delimiter: str) -> int:
        fields = sample[0].split(delimiter)
        return len(wanted & {field.strip(string.whitespace + '"') for field in fields})

    delimiter = max(DELIMITERS, key=columns_named)
    if spec.header or columns_named(delimiter) > len(wanted) / 2:
        header = table.first_record(delimiter)
        check_header(header, spec, name, optional)
        return Layout(delimiter, tuple(header), named=True)
    return _unnamed(sample, spec, name, optional)


def _unnamed(
    sample: Sequence[str], spec: CohortSpec, name: str, optional: Collection[str]
) -> Layout:
    """Find the layout of a file without header: the one that most lines fit."""
    whole = spec.file_order or tuple(spec.file_columns)
    last = spec.label.column
    orders = [whole]
    for left_out in ({last}, {spec.key_column}, {last, spec.key_column}):
        if left_out <= set(optional):
            orders.append(tuple(column for column in whole if column not in left_out))
    fits = [
        (sum(line.count(delimiter) == len(order) - 1 for line in sample), delimiter, order)
        for delimiter in DELIMITERS
        for order in orders
    ]
    lines, delimiter, order = max(fits, key=lambda fit: fit[0])
    if not lines:
        found = max(sample[0].count(delimiter) for delimiter in DELIMITERS) + 1
        raise HeaderError(
            f"{name}: the first line has {found} fields where a file of cohort {spec.name} has "
            f"{len(whole)}, in this order and without a header: {', '.join(whole)}"
        )
    return Layout(delimiter, order, named=False)


def check_header(
    header: Sequence[str], spec: CohortSpec, name: str, optional: Collection[str] = ()
) -> None:
    """Check that a file's column names are the cohort's.

    Raises:
        HeaderError: one is missing, unknown or there twice.
    """
    wanted = spec.file_columns
    missing = [c for c in wanted if c not in header and c not in optional]
    twice = [c for c in wanted if header.count(c) > 1]
    unknown = [place for place, c in enumerate(header, 1) if c not in wanted]
    faults = [
        f"{what}: {', '.join(columns)}"
        for what, columns in (("missing", missing), ("named twice", twice))
        if columns
    ]
    if unknown:
        # By place: in a file without a header they are a patient's values.
        faults.append(f"not in the cohort: {len(unknown)} (the first is column {unknown[0]})")
    if faults:
        needed = [column for column in wanted if column not in optional]
        raise HeaderError(
            f"{name}: columns {'; '.join(faults)}. The first line must name the columns of cohort "
            f"{spec.name}: {', '.join(needed)}"
        )

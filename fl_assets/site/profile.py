"""The hospital's profile: aggregate statistics of its training rows, the floor applied."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fl_assets.cohorts.spec import CategoryColumn, CohortSpec, NumberColumn
from fl_assets.config import StrictModel
from fl_assets.learning.features import Moments, combine
from fl_assets.site import partitions
from fl_assets.site.egress import EgressLog
from fl_assets.storage import SiteStore

Cells = dict[str, int | None]
"""People per cell of a table; None where the floor hides it."""

MANIFEST = "profile/manifest.json"
_MISSING = "\0"  # no category can be spelt like this: a file that holds it is refused


class HospitalProfile(StrictModel):
    """What a hospital tells about its training rows.

    Attributes:
        partitions: version of the partitions described.
        rows: training rows; the number itself is public.
        label: cells ``0`` and ``1``.
        missing: per nullable column, cells ``missing`` and ``present``.
        moments: per number column; None where too few people stand behind it, or where its count
            would give away a hidden number of missing values.
        histograms: per number column, a cell per public bin; the last one holds its upper edge.
        counts: per category or flag column, a cell per value.

    A cell is None where it stands for fewer people than the floor but not for none. Where just
    one cell of a table is None, the next smallest is too, since it could be had by subtraction.
    """

    partitions: str
    rows: int
    label: Cells
    missing: dict[str, Cells]
    moments: dict[str, Moments | None]
    histograms: dict[str, Cells]
    counts: dict[str, Cells]

    @property
    def version(self) -> str:
        """Content hash, 12 hex digits."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]


def suppress(cells: Mapping[str, int], minimum: int) -> Cells:
    """Apply the disclosure floor to one table of counts of people.

    Primary suppression hides ``0 < count < minimum``; secondary suppression hides one more cell
    where a single hidden one would follow from the total (Hundepool et al. 2012, Statistical
    Disclosure Control, section 4.3). A zero is shown: it stands for nobody.
    """
    hidden = {name for name, count in cells.items() if 0 < count < minimum}
    if len(hidden) == 1:
        rest = {name: count for name, count in cells.items() if name not in hidden and count}
        hidden |= {min(rest, key=lambda name: rest[name])} if rest else set()
    return {name: None if name in hidden else count for name, count in cells.items()}


def build_profile(store: SiteStore, spec: CohortSpec, minimum: int, run: str) -> HospitalProfile:
    """Describe the hospital's training rows, log the release and store the profile.

    Args:
        store: the hospital's.
        spec: the cohort.
        minimum: smallest number of people that a released count may stand for.
        run: who asked, for the egress log.
    """
    manifest = partitions.load_manifest(store)
    frame = partitions.load_part(store, manifest, "train")
    profile = describe(frame, spec, minimum, manifest.version)
    text = EgressLog(store).release("profile", run, profile.model_dump_json(indent=2).encode())
    store.put(f"profile/{profile.version}.json", text)
    store.put(MANIFEST, text)
    return profile


def describe(frame: pd.DataFrame, spec: CohortSpec, minimum: int, version: str) -> HospitalProfile:
    """Compute the profile of typed rows; ``version`` is that of their partitions."""
    missing: dict[str, Cells] = {}
    moments: dict[str, Moments | None] = {}
    histograms: dict[str, Cells] = {}
    counts: dict[str, Cells] = {}
    for column in spec.columns:
        values = frame[column.name].dropna()
        absent = len(frame) - len(values)
        if column.nullable:
            missing[column.name] = suppress({"missing": absent, "present": len(values)}, minimum)
        if isinstance(column, NumberColumn):
            numbers = values.to_numpy(dtype=np.float64)
            told = len(numbers) >= minimum and not 0 < absent < minimum
            moments[column.name] = Moments.of(numbers, column.public.center) if told else None
            histograms[column.name] = _suppress_present(
                _histogram(numbers, column), absent, minimum
            )
        else:
            cells = column.categories if isinstance(column, CategoryColumn) else (0, 1)
            found = {str(cell): int((values == cell).sum()) for cell in cells}
            counts[column.name] = _suppress_present(found, absent, minimum)
    label = frame[spec.label.column]
    return HospitalProfile(
        partitions=version,
        rows=len(frame),
        label=suppress({str(value): int((label == value).sum()) for value in (0, 1)}, minimum),
        missing=missing,
        moments=moments,
        histograms=histograms,
        counts=counts,
    )


def _suppress_present(cells: dict[str, int], absent: int, minimum: int) -> Cells:
    """Suppress the cells of the values present.

    Their sum and the public number of rows tell how many values are missing. Where that is too
    few to be told, it is a hidden cell of the table like any other.
    """
    if not 0 < absent < minimum:
        return suppress(cells, minimum)
    kept = suppress({**cells, _MISSING: absent}, minimum)
    del kept[_MISSING]
    return kept


def _histogram(values: NDArray[np.float64], column: NumberColumn) -> dict[str, int]:
    found, _ = np.histogram(values, bins=np.asarray(column.bins))
    names = [f"{low:.12g} to {high:.12g}" for low, high in itertools.pairwise(column.bins)]
    return dict(zip(names, found.tolist(), strict=True))


def load_profile(store: SiteStore) -> HospitalProfile:
    """Return the current profile.

    Raises:
        ObjectNotFoundError: it was never built.
    """
    return HospitalProfile.model_validate_json(store.get(MANIFEST))


def pool_moments(
    profiles: Iterable[HospitalProfile], spec: CohortSpec
) -> dict[str, Moments | None]:
    """Combine the hospitals' moments column by column; None where no hospital releases any."""
    listed = list(profiles)
    return {
        column.name: combine(m for p in listed if (m := p.moments[column.name]) is not None)
        for column in spec.numbers
    }

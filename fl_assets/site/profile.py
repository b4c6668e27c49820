"""The hospital's profile: aggregate statistics of its training rows, the floor applied."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from fl_assets.cohorts.spec import CategoryColumn, CohortSpec, FlagColumn, NumberColumn
from fl_assets.config import StrictModel
from fl_assets.learning.features import Moments, combine
from fl_assets.site import partitions
from fl_assets.site.egress import EgressLog
from fl_assets.storage import SiteStore

Cells = dict[str, int | None]
MANIFEST = "profile/manifest.json"


class HospitalProfile(StrictModel):
    """What a hospital tells about its training rows.

    Attributes:
        partitions: version of the partitions described.
        rows: training rows; the number itself is public.
        label: cells ``0`` and ``1``.
        missing: per nullable column, cells ``missing`` and ``present``.
        moments: per number column; None where too few people stand behind it.
        histograms: per number column, a cell per public bin.
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
    """Compute the profile of typed rows."""
    label = frame[spec.label.column]
    missing: dict[str, Cells] = {}
    moments: dict[str, Moments | None] = {}
    histograms: dict[str, Cells] = {}
    counts: dict[str, Cells] = {}
    for column in spec.columns:
        values = frame[column.name]
        if column.nullable:
            absent = int(values.isna().sum())
            missing[column.name] = suppress(
                {"missing": absent, "present": len(values) - absent}, minimum
            )
        if isinstance(column, NumberColumn):
            present = values.dropna().to_numpy(dtype=np.float64)
            moments[column.name] = (
                Moments.of(present, column.public.center) if len(present) >= minimum else None
            )
            histograms[column.name] = suppress(_histogram(present, column), minimum)
        else:
            counts[column.name] = suppress(_value_counts(values, column), minimum)
    return HospitalProfile(
        partitions=version,
        rows=len(frame),
        label=suppress({"0": int((label == 0).sum()), "1": int((label == 1).sum())}, minimum),
        missing=missing,
        moments=moments,
        histograms=histograms,
        counts=counts,
    )


def _histogram(
    values: np.ndarray[tuple[int], np.dtype[np.float64]], column: NumberColumn
) -> dict[str, int]:
    found, _ = np.histogram(values, bins=np.asarray(column.bins))
    edges = zip(column.bins, column.bins[1:], strict=False)
    return {f"{low:g} to {high:g}": int(n) for (low, high), n in zip(edges, found, strict=True)}


def _value_counts(values: pd.Series[object], column: CategoryColumn | FlagColumn) -> dict[str, int]:
    if isinstance(column, CategoryColumn):
        return {name: int((values == name).sum()) for name in column.categories}
    return {"0": int((values == 0).sum()), "1": int((values == 1).sum())}


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

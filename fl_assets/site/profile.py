"""The hospital's profile: aggregate statistics of its training rows, with a floor or with noise."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fl_assets.cohorts.spec import CategoryColumn, CohortSpec, NumberColumn
from fl_assets.config import StrictModel
from fl_assets.consortium import Consortium
from fl_assets.learning.features import Moments, combine
from fl_assets.learning.inputs import Floats
from fl_assets.privacy.noised_counts import Noised, whole
from fl_assets.site import partitions, profile_sums
from fl_assets.site.egress import EgressLog
from fl_assets.site.noised_release import NoisedRelease
from fl_assets.site.profile_sums import Table
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
        noised: how much noise was added; None of none.

    Without noise a cell is None where it stands for fewer people than the floor but not for none.
    Where just one cell of a table is None, the next smallest is too, since it could be had by
    subtraction.

    With noise no cell is None. A small count then tells as little of any one patient as a large
    one, and the difference between two versions of a profile is bounded like everything that is
    charged to the ledger. Numbers are clipped to their public range in the moments, which are None
    where the noise left nothing of them.
    """

    partitions: str
    rows: int
    label: Cells
    missing: dict[str, Cells]
    moments: dict[str, Moments | None]
    histograms: dict[str, Cells]
    counts: dict[str, Cells]
    noised: Noised | None = None

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


def noised_profile(consortium: Consortium, hospital: str) -> NoisedRelease | None:
    """Return how a hospital's profile is noised, None where the consortium wants no noise.

    Raises:
        UnknownHospitalError: there is none of that name.
    """
    if consortium.profile_epsilon is None:
        return None
    budget = consortium.budget(hospital)
    return NoisedRelease(hospital, budget, consortium.profile_epsilon, budget.delta)


def build_profile(
    store: SiteStore,
    spec: CohortSpec,
    minimum: int,
    run: str,
    noised: NoisedRelease | None = None,
) -> HospitalProfile:
    """Describe the hospital's training rows, log the release and store the profile.

    Args:
        store: the hospital's.
        spec: the cohort.
        minimum: smallest number of people that a released count may stand for without noise.
        run: who asked, for the egress log and the ledger.
        noised: how noise is added; None of none.

    Raises:
        BudgetExceededError, LedgerDamagedError: the noised profile cannot be paid for; no row was
            read.
    """
    manifest = partitions.load_manifest(store)
    if noised is None:
        frame = partitions.load_part(store, manifest, "train")
        profile = describe(frame, spec, minimum, manifest.version)
    else:
        profile = _describe_noised(store, manifest, spec, run, noised)
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
    return dict(zip(profile_sums.bin_names(column), found.tolist(), strict=True))


def _describe_noised(
    store: SiteStore,
    manifest: partitions.PartitionManifest,
    spec: CohortSpec,
    run: str,
    noised: NoisedRelease,
) -> HospitalProfile:
    """Describe the training rows by sums with noise, which are released once for these rows."""
    sensitivity = profile_sums.sensitivity(spec)
    sums = noised.sums(
        store,
        f"profile/{manifest.version}/{spec.version}",
        lambda: exact_sums(partitions.load_part(store, manifest, "train"), spec),
        sensitivity,
        run=run,
        what=f"noised profile of partitions {manifest.version}",
    )
    rows = manifest.files["train"].rows
    return from_sums(sums, spec, manifest.version, rows, noised.told(sensitivity))


def exact_sums(frame: pd.DataFrame, spec: CohortSpec) -> Floats:
    """Return what a profile is made of, without noise: the counts, then the unit sums."""
    # With a floor of 1 nothing is hidden.
    exact = describe(frame, spec, 1, "")
    sums: list[float | None] = []
    for table, cells in profile_sums.counted(spec).items():
        found = _cells(exact, table)
        sums += [found[cell] for cell in cells]
    for column in spec.numbers:
        values = frame[column.name].dropna().to_numpy(dtype=np.float64)
        sums += profile_sums.unit_sums(values, column)
    return np.array(sums, dtype=np.float64)


def _cells(profile: HospitalProfile, table: Table) -> Cells:
    field, column = table
    return profile.label if field == "label" else getattr(profile, field)[column]


def from_sums(
    sums: Floats, spec: CohortSpec, version: str, rows: int, noised: Noised
) -> HospitalProfile:
    """Return the profile that noised sums tell.

    Args:
        sums: of :func:`exact_sums`, with noise.
        spec: the cohort.
        version: of the partitions.
        rows: training rows, whose number is public.
        noised: what the noise is.
    """
    tables = profile_sums.counted(spec)
    first = sum(map(len, tables.values()))
    people = iter(whole(sums[:first]).tolist())
    told = {table: {cell: next(people) for cell in cells} for table, cells in tables.items()}
    absent = {c: min(cells["missing"], rows) for (f, c), cells in told.items() if f == "missing"}
    return HospitalProfile(
        partitions=version,
        rows=rows,
        label=told["label", spec.label.column],
        missing={c: {"missing": n, "present": rows - n} for c, n in absent.items()},
        moments={
            c.name: profile_sums.moments_of(
                rows - absent.get(c.name, 0), total, squares, c, noised.deviation
            )
            for c, (total, squares) in zip(spec.numbers, sums[first:].reshape(-1, 2), strict=True)
        },
        histograms={c: cells for (field, c), cells in told.items() if field == "histograms"},
        counts={c: cells for (field, c), cells in told.items() if field == "counts"},
        noised=noised,
    )


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

"""The hospital's profile: aggregate statistics of its training rows, with a floor or with noise."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import pandas as pd
import pyarrow as pa

from fl_assets.cohorts.spec import CohortSpec, NumberColumn
from fl_assets.config import StrictModel
from fl_assets.consortium import Consortium
from fl_assets.learning.features import Moments, combine
from fl_assets.learning.inputs import Floats
from fl_assets.privacy.noised_counts import Noised, whole
from fl_assets.site import partitions, profile_sums
from fl_assets.site.egress import EgressLog
from fl_assets.site.noised_release import NoisedRelease
from fl_assets.site.profile_tally import Tally
from fl_assets.site.rows import table_of
from fl_assets.storage import SiteStore
from fl_assets.storage.documents import load_document

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
        tally = Tally.of(_training_rows(store, manifest, spec), spec)
        profile = _floored(tally, spec, minimum, manifest.version)
    else:
        profile = _describe_noised(store, manifest, spec, run, noised)
    text = EgressLog(store).release("profile", run, profile.model_dump_json(indent=2).encode())
    store.put(f"profile/{profile.version}.json", text)
    store.put(MANIFEST, text)
    return profile


def _training_rows(
    store: SiteStore, manifest: partitions.PartitionManifest, spec: CohortSpec
) -> Iterator[pa.Table]:
    """Yield the rows that a profile describes, without their ids, which it has no use for."""
    columns = [*spec.column_names, spec.label.column]
    return partitions.read_part(store, manifest, "train", columns)


def describe(frame: pd.DataFrame, spec: CohortSpec, minimum: int, version: str) -> HospitalProfile:
    """Compute the profile of typed rows; ``version`` is that of their partitions."""
    return _floored(Tally.of([table_of(frame)], spec), spec, minimum, version)


def _floored(tally: Tally, spec: CohortSpec, minimum: int, version: str) -> HospitalProfile:
    """Apply the disclosure floor to everything that was added up."""
    missing: dict[str, Cells] = {}
    moments: dict[str, Moments | None] = {}
    histograms: dict[str, Cells] = {}
    counts: dict[str, Cells] = {}
    for column in spec.columns:
        absent = tally.absent[column.name]
        present = tally.rows - absent
        if column.nullable:
            missing[column.name] = suppress({"missing": absent, "present": present}, minimum)
        cells = _suppress_present(tally.cells[column.name], absent, minimum)
        if isinstance(column, NumberColumn):
            told = present >= minimum and not 0 < absent < minimum
            moments[column.name] = tally.moments(column) if told else None
            histograms[column.name] = cells
        else:
            counts[column.name] = cells
    return HospitalProfile(
        partitions=version,
        rows=tally.rows,
        label=suppress(tally.label, minimum),
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
        lambda: _sums(Tally.of(_training_rows(store, manifest, spec), spec, units=True), spec),
        sensitivity,
        run=run,
        what=f"noised profile of partitions {manifest.version}",
    )
    rows = manifest.files["train"].rows
    return from_sums(sums, spec, manifest.version, rows, noised.told(sensitivity))


def exact_sums(frame: pd.DataFrame, spec: CohortSpec) -> Floats:
    """Return what a profile is made of, without noise: the counts, then the unit sums."""
    return _sums(Tally.of([table_of(frame)], spec, units=True), spec)


def _sums(tally: Tally, spec: CohortSpec) -> Floats:
    sums: list[float] = []
    for (field, column), cells in profile_sums.counted(spec).items():
        if field == "missing":
            sums.append(tally.absent[column])
        else:
            found = tally.label if field == "label" else tally.cells[column]
            sums += [found[cell] for cell in cells]
    return np.concatenate([sums, *(tally.unit_sums(column) for column in spec.numbers)])


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
    return load_document(store, MANIFEST, HospitalProfile)


def pool_moments(
    profiles: Iterable[HospitalProfile], spec: CohortSpec
) -> dict[str, Moments | None]:
    """Combine the hospitals' moments column by column; None where no hospital releases any."""
    listed = list(profiles)
    return {
        column.name: combine(m for p in listed if (m := p.moments[column.name]) is not None)
        for column in spec.numbers
    }

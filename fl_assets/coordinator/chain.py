"""What is made of a hospital's uploads, one of the other, and whether Dagster knows of it.

A hospital may make its data itself: by ``python -m fl_assets.site``, or by erasing a patient.
Dagster then shows what is no more, and what it would make of the new data is not made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from fl_assets.storage import ObjectNotFoundError, SiteStore

RECORDS, PARTITIONS, PROFILE = CHAIN = (
    "hospital_records",
    "hospital_partitions",
    "hospital_profile",
)
# Of automation, to follow the asset before in the chain. Then nobody else will.
PATIENCE = timedelta(minutes=10)
_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Seen:
    """An asset of a hospital as Dagster saw it last.

    Attributes:
        version: of its data.
        event: what names Dagster's record of it; each record has another one.
        when: it was recorded.
    """

    version: str | None = None
    event: str = ""
    when: datetime = _NEVER


@dataclass(frozen=True)
class Behind:
    """An asset that Dagster knows in another version than the hospital has.

    Attributes:
        asset: name.
        version: that the hospital has.
        event: of :class:`Seen`.
    """

    asset: str
    version: str
    event: str


def current_version(store: SiteStore, asset: str) -> str | None:
    """Return the version of an asset of the chain that a hospital has, None if it has none.

    Needs the right to read manifests, and no row.
    """
    # Dagster's code server, which loads this module, needs none of their imports.
    from fl_assets.site import intake, partitions, profile

    try:
        if asset == RECORDS:
            return intake.current_version(store)
        if asset == PARTITIONS:
            return partitions.load_manifest(store).version
        return profile.load_profile(store).version
    except ObjectNotFoundError:
        return None


def first_behind(
    store: SiteStore, seen: Callable[[str], Seen], blocked: bool, now: datetime
) -> Behind | None:
    """Return the first asset of the chain that was made without Dagster; the rest follows it.

    Args:
        store: the hospital's.
        seen: of an asset of this hospital.
        blocked: whether uploads keep the records from being collected.
        now: the time.
    """
    before = datetime.min.replace(tzinfo=UTC)
    for asset in CHAIN:
        # In this order, for Dagster records what is already there.
        version = current_version(store, asset)
        known = seen(asset)
        makable = not (blocked and asset == RECORDS)
        if makable and version not in (None, known.version) and now - before > PATIENCE:
            return Behind(asset, str(version), known.event)
        before = known.when
    return None

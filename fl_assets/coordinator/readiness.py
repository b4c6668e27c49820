"""Whether a hospital's data are ready for a training: what it tells of them, and no row."""

from __future__ import annotations

from dataclasses import dataclass

from fl_assets.site import intake, partitions, profile
from fl_assets.storage import ObjectNotFoundError, SiteStore


@dataclass(frozen=True)
class HospitalState:
    """Where a hospital's data stand.

    Attributes:
        partitions: version of its partitions, None if it has none and takes no part.
        rows: its training rows.
        hold: why a training should not begin now, None where it may.
        reachable: whether its store could be read; a training over all hospitals would fail.
    """

    partitions: str | None = None
    rows: int = 0
    hold: str | None = None
    reachable: bool = True


def hospital_state(store: SiteStore) -> HospitalState:
    """Read where a hospital's data stand."""
    try:
        dealt = partitions.load_manifest(store)
    except ObjectNotFoundError:
        return HospitalState(hold="it has no partitions yet")
    return HospitalState(dealt.version, dealt.files["train"].rows, _hold(store, dealt))


def _hold(store: SiteStore, dealt: partitions.PartitionManifest) -> str | None:
    blocked = len(intake.load_intake(store).blocked)
    if blocked:
        return f"{blocked} of its uploads block its records"
    if dealt.records != intake.load_manifest(store).version:
        return "its partitions are behind its records"
    try:
        described = profile.load_profile(store).partitions
    except ObjectNotFoundError:
        described = None
    return None if described == dealt.version else "its profile is behind its partitions"

"""Which checks there are under given settings."""

from __future__ import annotations

from collections.abc import Iterator

from fl_assets.doctor.checks import Check
from fl_assets.doctor.cluster import cluster_checks
from fl_assets.doctor.configuration import cohort_check, consortium_check, recipe_checks
from fl_assets.doctor.machine import machine_checks
from fl_assets.doctor.stores import KUBERNETES, coordinator_checks, hospital_checks
from fl_assets.doctor.tracking import tracking_check
from fl_assets.errors import FlAssetsError
from fl_assets.settings import Settings


def preflight(settings: Settings, hospital: str | None = None) -> Iterator[Check]:
    """Return the checks of a place, from the ground up.

    Without a consortium file that loads, there are those alone that need none.

    Args:
        settings: of the place.
        hospital: whose process or pod it is; the coordinator's if None.

    Raises:
        UnknownHospitalError: the consortium has none of that name.
    """
    yield from machine_checks(settings)
    yield consortium_check(settings)
    try:
        whole = settings.whole_consortium
    except FlAssetsError:
        return
    yield cohort_check(settings)
    if hospital is not None:
        whole.hospital(hospital)
        yield from hospital_checks(settings, hospital)
        return
    yield from recipe_checks(settings)
    yield tracking_check(settings)
    yield from coordinator_checks(settings)
    if settings.runtime == KUBERNETES:
        yield from cluster_checks(settings)

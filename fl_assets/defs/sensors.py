"""Sensors."""

import dagster as dg

from fl_assets.defs.partitions import HOSPITALS, roster_changes
from fl_assets.defs.resources import Platform
from fl_assets.errors import FlAssetsError


@dg.sensor(
    name="hospital_roster",
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Keeps the hospital partitions in step with consortium.yaml, without a redeploy.",
)
def hospital_roster(
    context: dg.SensorEvaluationContext, platform: Platform
) -> dg.SensorResult | dg.SkipReason:
    """Add and remove hospital partitions as the file says."""
    try:
        consortium = platform.settings.consortium
    except FlAssetsError as error:
        # An unreadable file must not take every hospital away.
        return dg.SkipReason(f"partitions left as they are: {error}")
    added, removed = roster_changes(context.instance, consortium)
    if not added and not removed:
        return dg.SkipReason("consortium.yaml has not changed its hospitals")
    requests = [HOSPITALS.build_add_request(added)] if added else []
    return dg.SensorResult(
        dynamic_partitions_requests=[
            *requests,
            *([HOSPITALS.build_delete_request(removed)] if removed else []),
        ]
    )

"""What follows by itself from new records of a hospital."""

from __future__ import annotations

import dagster as dg
from dagster import AutomationCondition

REFRESHED = ("hospital_partitions", "hospital_profile", "local_baseline")


def refresh_condition() -> AutomationCondition:
    """When an asset of a hospital follows the one that it is made from.

    When that one's content has changed, or will in the same run, or when the asset is missing; each
    hospital for itself. The same content again starts nothing. Dagster's own ``eager`` would also
    follow updates without a change, and forget what was missing before it was first asked.
    """
    changed = AutomationCondition.any_deps_match(
        AutomationCondition.data_version_changed() | AutomationCondition.will_be_requested()
    )
    handled = AutomationCondition.newly_requested() | AutomationCondition.newly_updated()
    idle = ~AutomationCondition.in_progress()
    return (
        (AutomationCondition.newly_missing() | changed).since(handled)
        & ~AutomationCondition.any_deps_missing()
        & ~AutomationCondition.any_deps_in_progress()
        & idle
        # An evaluation reads what was made when it begins and what is being made when it ends. What
        # was made between the two is neither, and would be made again: so one more look is waited.
        & ~idle.newly_true()
    ).with_label("follows its hospital's data")


def refresh_sensor(seconds: int) -> dg.AutomationConditionSensorDefinition:
    """Return the sensor that looks at the conditions every so many seconds."""
    return dg.AutomationConditionSensorDefinition(
        "hospital_refresh",
        target=dg.AssetSelection.assets(*REFRESHED),
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=seconds,
        # A backfill over several hospitals would be one thing that ends when its slowest does.
        emit_backfills=False,
        description="Partitions, profile and baseline of a hospital follow its records, in a run "
        "of the hospital's own.",
    )

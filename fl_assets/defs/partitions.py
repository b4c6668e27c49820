"""The two partition sets: hospitals, which come and go, and recipes, which are files."""

from __future__ import annotations

import dagster as dg

from fl_assets.consortium import Consortium

HOSPITALS = dg.DynamicPartitionsDefinition(name="hospital")


def roster_changes(
    instance: dg.DagsterInstance, consortium: Consortium
) -> tuple[list[str], list[str]]:
    """Return the hospitals to add to and to remove from Dagster's partitions."""
    wanted, present = consortium.hospital_names, instance.get_dynamic_partitions("hospital")
    return (
        [name for name in wanted if name not in present],
        [name for name in present if name not in wanted],
    )


def sync_hospitals(instance: dg.DagsterInstance, consortium: Consortium) -> None:
    """Bring Dagster's hospital partitions in step with the consortium."""
    added, removed = roster_changes(instance, consortium)
    instance.add_dynamic_partitions("hospital", added)
    for name in removed:
        instance.delete_dynamic_partition("hospital", name)

"""Runs that are not at their end, and which hospitals' data they make."""

from __future__ import annotations

import dagster as dg

from fl_assets.coordinator.chain import CHAIN
from fl_assets.defs.jobs import REFRESH_HOSPITAL
from fl_assets.defs.partitions import HOSPITALS

UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_PARTITION = "dagster/partition"
_RANGE = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
_MADE = {dg.AssetKey(name) for name in CHAIN}


def hospitals_under_way(instance: dg.DagsterInstance) -> set[str]:
    """Return the hospitals whose records, partitions or profile a run makes, or waits to make.

    Whoever asked for it: a sensor, automation, a backfill or a person.
    """
    # All of them, without a limit: one that is overlooked is done twice.
    runs = instance.get_runs(dg.RunsFilter(statuses=UNFINISHED))
    return {name for run in runs if _makes(run) for name in _partitions(instance, run)}


def _makes(run: dg.DagsterRun) -> bool:
    # A job that was launched as a whole selects nothing.
    if run.asset_selection is None:
        return run.job_name == REFRESH_HOSPITAL
    return not _MADE.isdisjoint(run.asset_selection)


def _partitions(instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[str]:
    if _PARTITION in run.tags:
        return [run.tags[_PARTITION]]
    first, last = (run.tags.get(tag) for tag in _RANGE)
    names = HOSPITALS.get_partition_keys(dynamic_partitions_store=instance)
    if first not in names or last not in names:
        # One that has left meanwhile; of the others nobody can tell.
        return []
    return list(names[names.index(first) : names.index(last) + 1])

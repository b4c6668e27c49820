"""What follows by itself from new records of a hospital."""

from __future__ import annotations

import dagster as dg
from dagster import AutomationCondition

from fl_assets.defs.materialisations import VERSION, newest, tags_of

REFRESHED = ("hospital_partitions", "hospital_profile", "local_baseline")
_MADE_FROM = "dagster/input_event_pointer/"


class Outdated(AutomationCondition[dg.AssetKey]):
    """True of a hospital whose asset is missing, or made from other content than there is now.

    Unless a run has tried to follow that content: one that fails is not repeated by itself. All of
    it is read from what was recorded, and read after the other conditions: Dagster's own ones on
    changes compare events with a cursor, and what is made between an evaluation's reading and its
    cursor is seen by neither that evaluation nor as a thing of the past, and made again.
    """

    @property
    def name(self) -> str:
        """How Dagster's UI calls it."""
        return "behind its hospital's data"

    @property
    def requires_cursor(self) -> bool:
        """Nothing is kept from one evaluation to the next."""
        return False

    def evaluate(
        self, context: dg.AutomationContext[dg.AssetKey]
    ) -> dg.AutomationResult[dg.AssetKey]:
        """Keep the hospitals of which it is true."""
        view, hospitals = context.asset_graph_view, context.partitions_def
        assert hospitals is not None, context.key
        parents = context.asset_graph.get(context.key).parent_keys
        outdated = {
            hospital
            for hospital in context.candidate_subset.expensively_compute_partition_keys()
            if any(_is_outdated(view.instance, context.key, each, hospital) for each in parents)
        }
        return dg.AutomationResult(
            context, view.get_subset_from_partition_keys(context.key, hospitals, outdated)
        )


def _is_outdated(
    instance: dg.DagsterInstance, key: dg.AssetKey, parent: dg.AssetKey, hospital: str
) -> bool:
    there = newest(instance, dg.AssetRecordsFilter(parent, asset_partitions=[hospital]))
    if there is None:
        return False
    made = newest(instance, dg.AssetRecordsFilter(key, asset_partitions=[hospital]))
    pointer = tags_of(made).get(_MADE_FROM + parent.to_user_string())
    if pointer == str(there.storage_id):
        return False
    if pointer is not None:
        read = newest(instance, dg.AssetRecordsFilter(parent, storage_ids=[int(pointer)]))
        if read is not None and tags_of(read).get(VERSION) == tags_of(there).get(VERSION):
            return False
    tried = instance.get_latest_planned_materialization_info(key, hospital)
    return tried is None or (
        tried.storage_id < there.storage_id and tried.run_id != there.event_log_entry.run_id
    )


def refresh_condition() -> AutomationCondition:
    """When an asset of a hospital follows the one that it is made from.

    When that one's content is another than the asset was made from, or will be made in the same
    run; each hospital for itself. The same content again starts nothing.
    """
    return (
        ~AutomationCondition.in_progress()
        & ~AutomationCondition.any_deps_in_progress()
        & ~AutomationCondition.any_deps_missing()
        & (AutomationCondition.any_deps_match(AutomationCondition.will_be_requested()) | Outdated())
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
        # Where conditions of one's own can be evaluated.
        use_user_code_server=True,
        description="Partitions, profile and baseline of a hospital follow its records, in a run "
        "of the hospital's own.",
    )

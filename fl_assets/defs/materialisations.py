"""Dagster's record of what was made last."""

from __future__ import annotations

from collections.abc import Mapping

import dagster as dg

VERSION = "dagster/data_version"
"""Tag with the version of the content."""


def newest(instance: dg.DagsterInstance, wanted: dg.AssetRecordsFilter) -> dg.EventLogRecord | None:
    """Return the newest record of an asset that fits, None if there is none."""
    return next(iter(instance.fetch_materializations(wanted, limit=1).records), None)


def tags_of(record: dg.EventLogRecord | None) -> Mapping[str, str]:
    """Return the tags of a record; none if there is no record."""
    made = None if record is None else record.asset_materialization
    return {} if made is None else made.tags or {}

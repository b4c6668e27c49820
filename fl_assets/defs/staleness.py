"""Whether an asset is up to date, as Dagster's own UI judges it."""

from __future__ import annotations

from typing import Any

import dagster as dg

# Not public in Dagster 1.13, but the one definition of "stale" that the UI shows; a second one of
# our own would disagree with it sooner or later. fl_assets_tests/defs/test_staleness.py guards it.
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContext


class _Loaders(LoadingContext):
    """The least that the resolver reads through."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance
        self._loaders: dict[type, Any] = {}

    @property
    def instance(self) -> dg.DagsterInstance:
        return self._instance

    @property
    def loaders(self) -> dict[type, Any]:
        return self._loaders


class Staleness:
    """Judges assets of one set of definitions against what an instance has recorded."""

    def __init__(self, instance: dg.DagsterInstance, definitions: dg.Definitions) -> None:
        self._instance = instance
        self._graph = definitions.resolve_asset_graph()

    def is_fresh(self, asset: str, partition: str | None = None) -> bool:
        """Tell whether the asset (its partition) exists and nothing it depends on has changed."""
        # The resolver caches what it has read, so each question gets a new one.
        resolver = CachingStaleStatusResolver(self._instance, self._graph, _Loaders(self._instance))
        return resolver.get_status(dg.AssetKey(asset), partition) == StaleStatus.FRESH

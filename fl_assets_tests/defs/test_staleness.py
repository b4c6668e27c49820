"""Our question of Dagster's staleness gives the answer that its UI shows."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from fl_assets.defs.staleness import Staleness

PARTS = dg.StaticPartitionsDefinition(["a", "b"])


def definitions(code_version: str = "1", version: str = "v1") -> dg.Definitions:
    @dg.asset(code_version=code_version, partitions_def=PARTS)
    def upstream() -> dg.MaterializeResult:
        return dg.MaterializeResult(data_version=dg.DataVersion(version))

    @dg.asset(code_version="1", deps=[upstream])
    def downstream() -> dg.MaterializeResult:
        return dg.MaterializeResult(data_version=dg.DataVersion("d"))

    return dg.Definitions([upstream, downstream])


def materialise(
    instance: dg.DagsterInstance, found: dg.Definitions, asset: str, partition: str | None = None
) -> None:
    found.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance, asset_selection=[dg.AssetKey(asset)], partition_key=partition
    )


def test_what_makes_an_asset_stale(tmp_path: Path) -> None:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        first = definitions()
        assert not Staleness(instance, first).is_fresh("upstream", "a")

        for part in ("a", "b"):
            materialise(instance, first, "upstream", part)
        materialise(instance, first, "downstream")
        assert Staleness(instance, first).is_fresh("upstream", "a")
        assert Staleness(instance, first).is_fresh("downstream")

        # The same content again, under any number of runs, makes nothing stale ...
        materialise(instance, first, "upstream", "a")
        assert Staleness(instance, first).is_fresh("downstream")
        # ... new content of one partition does ...
        materialise(instance, definitions(version="v2"), "upstream", "a")
        assert not Staleness(instance, first).is_fresh("downstream")
        # ... and new code makes exactly that asset stale.
        materialise(instance, first, "downstream")
        changed = definitions(code_version="2")
        assert not Staleness(instance, changed).is_fresh("upstream", "b")
        assert Staleness(instance, changed).is_fresh("downstream")

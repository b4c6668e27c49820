"""What left each hospital."""

import dagster as dg

from fl_assets.defs.common import SITE, count_table, failing_clearly, picture, table
from fl_assets.defs.partitions import HOSPITALS
from fl_assets.defs.resources import Platform


def egress_assets() -> list[dg.AssetsDefinition]:
    """Return ``egress_log``."""

    @dg.asset(
        # Showing the ledger is an entry too.
        deps=["hospital_partitions", "privacy_ledger"],
        partitions_def=HOSPITALS,
        group_name="governance",
        kinds={"json"},
        owners=SITE,
        code_version="1",
        description="The hospital's egress log: what left the building, when, how many bytes, of "
        "which kind, and which run asked for it. Written before anything leaves.",
        check_specs=[
            dg.AssetCheckSpec(
                "log_whole",
                asset="egress_log",
                description="No entry was edited, and none is missing before the newest one.",
            )
        ],
    )
    def egress_log(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult:
        from fl_assets.site.egress import EgressLog
        from fl_assets.site.egress_report import egress_plot, group_table

        hospital = context.partition_key
        with failing_clearly():
            log = EgressLog(platform.settings.listing_store(hospital))
            version = log.version()
            entries, damages = log.read()
        kinds: dict[str, int] = {}
        for entry in entries:
            kinds[entry.kind] = kinds.get(entry.kind, 0) + entry.size
        return dg.MaterializeResult(
            data_version=dg.DataVersion(version),
            metadata={
                "messages": len(entries),
                "bytes": sum(kinds.values()),
                "bytes_by_kind": count_table(kinds, "kind", "bytes"),
                "by_day_kind_and_run": table(group_table(hospital, entries)),
                "bytes_per_day": picture(egress_plot(hospital, entries)),
            },
            check_results=[
                dg.AssetCheckResult(
                    check_name="log_whole",
                    passed=not damages,
                    metadata={"damages": "; ".join(damages) or "none", "entries": len(entries)},
                )
            ],
        )

    return [egress_log]

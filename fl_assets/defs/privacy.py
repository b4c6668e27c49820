"""What was spent of each hospital's privacy budget."""

from collections.abc import Iterator

import dagster as dg

from fl_assets.defs.common import SITE, digest, failing_clearly, picture, table
from fl_assets.defs.outside import ledger_version
from fl_assets.defs.partitions import HOSPITALS
from fl_assets.defs.resources import Platform
from fl_assets.errors import FlAssetsError
from fl_assets.settings import Settings


def privacy_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """Return ``privacy_ledger``."""
    consortium = settings.whole_consortium
    budgets = digest(*map(consortium.budget, consortium.hospital_names))

    @dg.asset(
        # It was spent on these rows.
        deps=["hospital_partitions"],
        partitions_def=HOSPITALS,
        group_name="governance",
        kinds={"json"},
        owners=SITE,
        code_version=f"1.{budgets}",
        description="The hospital's privacy ledger: what was ever charged to its budget, what is "
        "left, what was refused.",
        check_specs=[
            dg.AssetCheckSpec(
                "ledger_whole",
                asset="privacy_ledger",
                blocking=True,
                description="No entry was edited, cut, moved or put back to an earlier state.",
            )
        ],
    )
    def privacy_ledger(
        context: dg.AssetExecutionContext, platform: Platform
    ) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
        from fl_assets.coordinator.budget import budget_plot, budget_table, line_table
        from fl_assets.coordinator.sites import came_of, sites_of
        from fl_assets.federation.witnesses import load_witness, save_witness
        from fl_assets.privacy.ledger_chain import LedgerDamagedError
        from fl_assets.site.tasks.data import ShowLedger

        settings, hospital = platform.settings, context.partition_key
        store = settings.coordinator_store()
        with failing_clearly():
            try:
                seen = load_witness(store, hospital)
                request = ShowLedger(run=context.run.run_id, witness=seen)
                view = sites_of(settings).ask(hospital, request)
            except FlAssetsError as error:
                if came_of(error, LedgerDamagedError):
                    yield dg.AssetCheckResult(
                        check_name="ledger_whole", passed=False, description=str(error)
                    )
                raise
            found, lines = view.budget, view.lines
            save_witness(store, hospital, found.head)
        yield dg.MaterializeResult(
            data_version=dg.DataVersion(ledger_version(found.head)),
            metadata={
                "epsilon_cap": found.cap,
                "epsilon_spent": found.spent,
                "epsilon_left": found.left,
                "delta": found.delta,
                "unprotected_runs": found.unprotected_runs,
                "refused_runs": found.refused_runs,
                "budget": table(budget_table([found])),
                "entries": table(line_table(hospital, lines)),
                "budget_over_time": picture(budget_plot(found, lines)),
            },
            check_results=[
                dg.AssetCheckResult(
                    check_name="ledger_whole", passed=True, metadata={"entries": found.entries}
                )
            ],
        )

    return [privacy_ledger]

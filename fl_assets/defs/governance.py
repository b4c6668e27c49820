"""Which model is used: the comparison and the promotion."""

from __future__ import annotations

import dagster as dg

from fl_assets.defs.common import COORDINATOR, digest, failing_clearly, picture, table
from fl_assets.defs.resources import Platform
from fl_assets.settings import Settings


def governance_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """Return ``model_comparison`` and ``champion_model``."""
    compared = ["federated_evaluation", "local_baseline"]
    if settings.consortium.simulated:
        compared.append("centralized_baseline")

    @dg.asset(
        deps=compared,
        group_name="governance",
        kinds={"html"},
        owners=COORDINATOR,
        code_version="1",
        description="Majority class, age only, centralised, each hospital alone and every "
        "federated recipe side by side.",
    )
    def model_comparison(platform: Platform) -> dg.MaterializeResult:
        from fl_assets.coordinator.comparison import compare
        from fl_assets.coordinator.summary import (
            comparison_plots,
            comparison_table,
            hospital_table,
        )
        from fl_assets.coordinator.utility import utility_plots

        with failing_clearly():
            comparison = compare(platform.settings)
            drawn = comparison_plots(comparison) + utility_plots(
                platform.settings.coordinator_store(), comparison
            )
        plots = {plot.name: picture(plot) for plot in drawn}
        return dg.MaterializeResult(
            data_version=dg.DataVersion(comparison.version),
            metadata={
                "models": table(comparison_table(comparison)),
                "hospitals": table(hospital_table(comparison)),
                **plots,
            },
        )

    @dg.asset(
        deps=[model_comparison, "membership_audit"],
        group_name="governance",
        kinds={"mlflow"},
        owners=COORDINATOR,
        code_version=f"1.{digest(settings.consortium.promotion)}",
        description="Promotion: the best candidate on validation rows; every gate is read anew, "
        "then the MLflow alias `champion` moves.",
        check_specs=[
            dg.AssetCheckSpec(
                "serves_raw_columns",
                asset="champion_model",
                description="The champion loads from the registry and scores raw columns.",
            )
        ],
    )
    def champion_model(platform: Platform) -> dg.MaterializeResult:
        from fl_assets.coordinator.promotion import promote, try_champion
        from fl_assets.coordinator.summary import gates_table, write_report

        settings = platform.settings
        with failing_clearly():
            decision = promote(settings)
            write_report(settings)
        gates = gates_table(decision)
        if not decision.promoted:
            failed = "; ".join(
                f"{g.gate}: asked {g.asked}, found {g.found}"
                for g in decision.gates
                if not g.passed
            )
            raise dg.Failure(
                description=f"{decision.candidate.recipe.name} is not promoted ({failed}); "
                f"champion stays version {decision.previous or 'none'}",
                metadata={"gates": table(gates)},
                allow_retries=False,
            )
        risk = try_champion(settings)
        release = decision.candidate
        return dg.MaterializeResult(
            data_version=dg.DataVersion(f"{release.model}-{release.version}"),
            metadata={
                "model": f"{release.model} version {release.version}",
                "recipe": release.recipe.name,
                "previous_champion": decision.previous or "none",
                "mlflow_run_id": release.mlflow_run,
                "gates": table(gates),
                "report": f"{settings.coordinator_uri}/report.html",
            },
            check_results=[
                dg.AssetCheckResult(
                    check_name="serves_raw_columns",
                    passed=0 <= risk <= 1,
                    metadata={"example_risk": risk},
                )
            ],
        )

    return [model_comparison, champion_model]

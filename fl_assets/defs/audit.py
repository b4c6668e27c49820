"""The audit of a candidate: an attack on its members' privacy."""

import dagster as dg

from fl_assets.defs.common import COORDINATOR, digest, failing_clearly, picture, table
from fl_assets.defs.resources import Platform
from fl_assets.settings import Settings


def audit_assets(
    settings: Settings, recipes: dg.StaticPartitionsDefinition
) -> list[dg.AssetsDefinition]:
    """Return ``membership_audit``."""
    limit = settings.consortium.promotion.max_membership_auc

    @dg.asset(
        deps=["federated_model"],
        partitions_def=recipes,
        group_name="governance",
        kinds={"pytorch"},
        owners=COORDINATOR,
        code_version=f"1.{digest(limit)}",
        description="Attacks that try to tell who was trained on, by each hospital on its own "
        "rows; an over-fitted network must be caught by the same attacks.",
        check_specs=[
            dg.AssetCheckSpec(
                "positive_control_caught",
                asset="membership_audit",
                description="The attack finds the members of an over-fitted network.",
            ),
            dg.AssetCheckSpec(
                "membership_exposure",
                asset="membership_audit",
                blocking=True,
                description="No attack is shown to exceed the promotion gate or the claimed "
                "epsilon.",
            ),
        ],
    )
    def membership_audit(
        context: dg.AssetExecutionContext, platform: Platform
    ) -> dg.MaterializeResult:
        from fl_assets.coordinator.audit import audit_release, log_audit
        from fl_assets.coordinator.audit_gates import exposure_gates
        from fl_assets.coordinator.audit_report import audit_plot, audit_table
        from fl_assets.coordinator.summary import log_pictures

        settings = platform.settings
        with failing_clearly():
            found = audit_release(settings, context.partition_key)
            plot = audit_plot(found)
            release = log_audit(settings, found)
            log_pictures(settings, release.mlflow_run, [plot])
        gates = exposure_gates(found, limit)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(found.fingerprint),
            metadata={
                "model": f"{release.model} version {release.version}",
                "epsilon_shown": "n/a" if found.epsilon is None else found.epsilon,
                "attacks": table(audit_table(found)),
                "attack_roc": picture(plot),
            },
            check_results=[
                dg.AssetCheckResult(
                    check_name="positive_control_caught",
                    passed=found.control.exceeds(limit),
                    metadata={"max_membership_auc": limit},
                ),
                dg.AssetCheckResult(
                    check_name="membership_exposure",
                    passed=all(gate.passed for gate in gates),
                    metadata={
                        gate.gate: f"asked {gate.asked}, found {gate.found}" for gate in gates
                    },
                ),
            ],
        )

    return [membership_audit]

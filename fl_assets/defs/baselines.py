"""Bounds of the federation: each hospital alone, and all rows in one place (demo only)."""

import dagster as dg

from fl_assets.defs.automation import refresh_condition
from fl_assets.defs.common import (
    COORDINATOR,
    DEMO,
    SITE,
    count_table,
    failing_clearly,
    markdown_table,
)
from fl_assets.defs.partitions import HOSPITALS
from fl_assets.defs.resources import Platform
from fl_assets.settings import Settings


def baseline_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """Return ``local_baseline`` and, in a simulation, ``centralized_baseline``."""

    @dg.asset(
        deps=["hospital_partitions"],
        partitions_def=HOSPITALS,
        automation_condition=refresh_condition(),
        group_name="baselines",
        kinds={"sklearn"},
        owners=SITE,
        code_version="1",
        description="Lower bound: logistic regression on the hospital's own rows alone, tuned on "
        "its validation rows, scored on its own test rows. The model stays at the hospital.",
    )
    def local_baseline(
        context: dg.AssetExecutionContext, platform: Platform
    ) -> dg.MaterializeResult:
        from fl_assets.coordinator import documents
        from fl_assets.coordinator.baselines import SEED
        from fl_assets.coordinator.comparison import local_key
        from fl_assets.coordinator.sites import sites_of
        from fl_assets.reporting.text import interval
        from fl_assets.site.tasks.models import FitBaseline

        settings, hospital = platform.settings, context.partition_key
        with failing_clearly():
            request = FitBaseline(run=context.run.run_id, seed=SEED)
            alone = sites_of(settings).ask(hospital, request)
            found = alone.evaluation
            documents.save(settings.coordinator_store(), local_key(hospital), found)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(found.partitions),
            metadata={
                "auroc": interval(found.evaluation),
                "test_positives": found.evaluation.positives if found.evaluation else "n/a",
                "chosen": count_table(alone.chosen, "parameter", "value"),
            },
        )

    @dg.asset(
        deps=["hospital_partitions"],
        group_name="baselines",
        kinds={"sklearn", "pytorch"},
        owners=COORDINATOR,
        tags=DEMO,
        code_version="1",
        description="Upper bound, demo only: majority class, age only, logistic regression, "
        "gradient boosting and a neural network on pooled rows, tuned on validation.",
        check_specs=[
            dg.AssetCheckSpec(
                "beats_age_only",
                asset="centralized_baseline",
                description="Logistic regression ranks better than age alone.",
            )
        ],
    )
    def centralized_baseline(platform: Platform) -> dg.MaterializeResult:
        from fl_assets.coordinator.baselines import fit_centralised
        from fl_assets.reporting.text import interval

        with failing_clearly():
            models = fit_centralised(platform.settings).models
        areas = {name: model.auroc for name, model in models.items()}
        better, age = areas["logistic_regression"], areas["age_only"]
        versions = {h: s.partitions for h, s in models["age_only"].evaluation.sites.items()}
        return dg.MaterializeResult(
            data_version=dg.DataVersion("-".join(v[:8] for v in versions.values())),
            metadata={
                "models": markdown_table(
                    ["model", "AUROC, pooled test rows", "tried", "chosen on validation"],
                    [
                        (name, interval(m.evaluation.pooled), m.tried, m.params)
                        for name, m in models.items()
                    ],
                )
            },
            check_results=[
                dg.AssetCheckResult(
                    check_name="beats_age_only",
                    passed=better is not None and age is not None and better > age,
                    severity=dg.AssetCheckSeverity.WARN,
                    metadata={n: "n/a" if area is None else area for n, area in areas.items()},
                )
            ],
        )

    return [local_baseline, *([centralized_baseline] if settings.consortium.simulated else [])]

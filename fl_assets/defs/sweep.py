"""Hyper-parameter search as an asset."""

import sys

import dagster as dg

from fl_assets.defs.common import COORDINATOR, failing_clearly, picture, table
from fl_assets.defs.resources import Platform


class SweepConfig(dg.Config):
    """How a sweep is run, if not as usual.

    Attributes:
        fresh: forget the trials of an earlier run of the same sweep on the same data.
    """

    fresh: bool = False


def sweep_assets(sweeps: dg.StaticPartitionsDefinition) -> list[dg.AssetsDefinition]:
    """Return ``recipe_sweep``."""

    @dg.asset(
        # Of every recipe and not of the sweep's own alone, since that would take reading the files
        # here. A sweep of which nothing changed finds all its trials stored.
        deps=[
            dg.AssetDep("recipe", partition_mapping=dg.AllPartitionMapping()),
            "preprocessor",
            dg.AssetDep("hospital_partitions", partition_mapping=dg.AllPartitionMapping()),
        ],
        partitions_def=sweeps,
        group_name="federation",
        kinds={"optuna", "flower", "mlflow"},
        owners=COORDINATOR,
        code_version="1",
        description="A search for a recipe's hyper-parameters by many small federations, judged "
        "on validation rows alone; the best is a recipe file.",
    )
    def recipe_sweep(
        context: dg.AssetExecutionContext, config: SweepConfig, platform: Platform
    ) -> dg.MaterializeResult:
        from fl_assets.coordinator.sweep import Trial, search
        from fl_assets.coordinator.sweep_report import describe, publish, sweep_plots, trial_table
        from fl_assets.federation.sweep import load_sweep

        settings = platform.settings
        with failing_clearly():
            sweep, base = load_sweep(settings.recipes, context.partition_key)

            def tell(trial: Trial) -> None:
                sys.stderr.write(f"{describe(trial, sweep)}\n")

            result = search(settings, sweep, base, fresh=config.fresh, observe=tell)
            publish(settings, result)
        best = result.trials[result.best]
        return dg.MaterializeResult(
            data_version=dg.DataVersion(result.version),
            metadata={
                "objective": sweep.objective,
                "best": best.objective,
                "trials": len(result.trials),
                "failed": sum(trial.failure is not None for trial in result.trials),
                "recipe": dg.MetadataValue.md(f"```yaml\n{result.recipe}```"),
                "table": table(trial_table(result)),
                **{plot.name: picture(plot) for plot in sweep_plots(result)},
            },
        )

    return [recipe_sweep]

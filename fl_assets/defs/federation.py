"""The federation: preprocessor, recipes, models, and their evaluation at the hospitals."""

from typing import TYPE_CHECKING

import dagster as dg

from fl_assets.defs.common import (
    COORDINATOR,
    count_table,
    digest,
    failing_clearly,
    markdown_table,
    picture,
    retried,
    table,
)
from fl_assets.defs.resources import Platform
from fl_assets.settings import Settings

if TYPE_CHECKING:
    from fl_assets.coordinator.evaluation import ModelEvaluation


class TrainingConfig(dg.Config):
    """How a model is trained, if not as usual; the same in the launchpad of Dagster's UI.

    Attributes:
        runtime: where, if not where FLA_RUNTIME says: inprocess, processes,
            simulation or kubernetes.
        fresh: begin at the first round and register a new version, whatever an earlier run left.
    """

    runtime: str | None = None
    fresh: bool = False


def federation_assets(
    settings: Settings, recipes: dg.StaticPartitionsDefinition
) -> list[dg.AssetsDefinition]:
    """Return ``preprocessor``, ``recipe``, ``federated_model`` and ``federated_evaluation``."""
    contract = settings.cohort.version
    # Only a simulation may look at pooled rows, and noised moments are not theirs.
    exact = settings.consortium.simulated and settings.consortium.profile_epsilon is None
    gates = settings.consortium.promotion

    @dg.asset(
        deps=["hospital_profile"],
        group_name="federation",
        kinds={"json"},
        owners=COORDINATOR,
        code_version=f"1.{contract}",
        description="From raw columns to features, the same at every site: public clinical "
        "ranges, or moments combined from the profiles.",
        check_specs=[
            dg.AssetCheckSpec(
                "equals_pooled_fit",
                asset="preprocessor",
                description="Moments of the profiles equal a fit on pooled rows to 1e-9.",
            )
        ]
        if exact
        else [],
    )
    def preprocessor(platform: Platform) -> dg.MaterializeResult:
        from fl_assets.coordinator.preprocessors import build_preprocessors, pooled_fit_error
        from fl_assets.coordinator.training import ready_sites
        from fl_assets.site.profile import load_profile

        settings = platform.settings
        with failing_clearly():
            profiles = {
                name: load_profile(settings.listing_store(name)) for name in ready_sites(settings)
            }
            built = build_preprocessors(settings.coordinator_store(), settings.cohort, profiles)
            error = pooled_fit_error(settings, built) if exact else 0.0
        scalings = built.moments.scalings if built.moments else {}
        return dg.MaterializeResult(
            data_version=dg.DataVersion(built.version),
            metadata={
                "features": len(built.public.feature_names),
                "feature_names": ", ".join(built.public.feature_names),
                "profiles": count_table(built.profiles, "hospital", "profile"),
                "moments": markdown_table(
                    ["column", "mean", "standard deviation"],
                    [(n, f"{s.center:.6g}", f"{s.scale:.6g}") for n, s in scalings.items()],
                ),
            },
            check_results=[
                dg.AssetCheckResult(
                    check_name="equals_pooled_fit",
                    passed=error <= 1e-9,
                    metadata={"largest_difference": error},
                )
            ]
            if exact
            else [],
        )

    @dg.asset(
        partitions_def=recipes,
        group_name="federation",
        kinds={"yaml"},
        owners=COORDINATOR,
        code_version="1",
        description="A recipe file, validated. Its content hash is the data version, so an edit "
        "makes exactly that recipe's model stale.",
    )
    def recipe(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult:
        from fl_assets.federation.recipe import load_recipe

        with failing_clearly():
            found = load_recipe(platform.settings.recipes / f"{context.partition_key}.yaml")
        return dg.MaterializeResult(
            data_version=dg.DataVersion(found.hash),
            metadata={
                "description": found.description,
                "recipe": dg.MetadataValue.json(found.model_dump(mode="json")),
            },
        )

    @dg.asset(
        deps=[
            recipe,
            preprocessor,
            dg.AssetDep("hospital_partitions", partition_mapping=dg.AllPartitionMapping()),
        ],
        partitions_def=recipes,
        group_name="federation",
        kinds={"flower", "pytorch", "mlflow"},
        owners=COORDINATOR,
        code_version="1",
        description="One federated training over the hospitals: an MLflow run and a registered "
        "model version with its release record.",
        check_specs=[
            dg.AssetCheckSpec(
                "training_complete",
                asset="federated_model",
                blocking=True,
                description="Every round ran with the quorum; the loss is a number and fell, "
                "where it is not withheld for privacy.",
            )
        ],
    )
    def federated_model(
        context: dg.AssetExecutionContext, config: TrainingConfig, platform: Platform
    ) -> dg.MaterializeResult:
        from fl_assets.coordinator.summary import history_plot, log_pictures
        from fl_assets.coordinator.training import load_history, train
        from fl_assets.federation.recipe import load_recipe
        from fl_assets.federation.runtimes.base import KubernetesConfig, build_runtime

        settings = platform.settings
        # Nothing trained is lost when MLflow is away for a moment: the retry only registers.
        with retried(max_retries=2, delay=5), failing_clearly():
            hospitals = settings.consortium.hospital_names
            runtime = build_runtime(
                config.runtime or settings.runtime,
                {name: settings.site_environment(name) for name in hospitals},
                lambda: KubernetesConfig.of(settings, context.run.run_id, context.log.info),
            )
            asked = load_recipe(settings.recipes / f"{context.partition_key}.yaml")
            tags = {"dagster.run_id": context.run.run_id, "dagster.partition": asked.name}
            release = train(settings, asked, runtime, tags, fresh=config.fresh)
            history = load_history(settings.coordinator_store(), release)
            plot = history_plot(history)
            log_pictures(settings, release.mlflow_run, [plot])
        losses = [report.train_loss for report in history.rounds]
        first, last = losses[0], losses[-1]
        dropouts = sum(len(report.dropouts) for report in history.rounds)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(release.run),
            metadata={
                "model": f"{release.model} version {release.version}",
                "mlflow_run_id": release.mlflow_run,
                "rounds": len(history.rounds),
                "hospitals": ", ".join(sorted(release.hospitals)),
                "dropouts": dropouts,
                "threshold": release.threshold,
                "privacy": release.privacy,
                "validation_auroc": _or_none(history.rounds[-1].validation_auroc),
                "history": picture(plot),
                "release_record": dg.MetadataValue.json(release.model_dump(mode="json")),
            },
            check_results=[
                dg.AssetCheckResult(
                    check_name="training_complete",
                    passed=len(losses) == asked.rounds
                    and (asked.privacy is not None or asked.rounds == 1 or _fell(first, last)),
                    metadata={"rounds": len(losses), "dropouts": dropouts},
                )
            ],
        )

    @dg.asset(
        deps=[federated_model],
        partitions_def=recipes,
        group_name="federation",
        kinds={"pytorch"},
        owners=COORDINATOR,
        code_version=f"1.{digest(gates)}",
        description="The model on every hospital's untouched test rows, computed at the hospital.",
        check_specs=[
            dg.AssetCheckSpec(
                "metric_floors",
                asset="federated_evaluation",
                blocking=True,
                description="Mean AUROC and calibration error are within the promotion gates.",
            )
        ],
    )
    def federated_evaluation(
        context: dg.AssetExecutionContext, platform: Platform
    ) -> dg.MaterializeResult:
        from fl_assets.coordinator.evaluation import evaluate_release, log_evaluation
        from fl_assets.coordinator.summary import evaluation_plots, log_pictures, personal_table
        from fl_assets.learning.metrics import Metric

        settings = platform.settings
        with failing_clearly():
            found = evaluate_release(settings, context.partition_key)
            plots, personal = evaluation_plots(found), personal_table(found)
            release = log_evaluation(settings, context.partition_key, found)
            log_pictures(settings, release.mlflow_run, plots)
        auroc, ece = found.mean(Metric.AUROC), found.mean(Metric.ECE)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(found.fingerprint),
            metadata={
                "mean_auroc": _or_none(auroc),
                "hospitals_behind_auroc": f"{found.behind(Metric.AUROC)} of {len(found.sites)}",
                "mean_ece": _or_none(ece),
                **_evaluation_metadata(found),
                **({"personal": table(personal)} if personal else {}),
                **{plot.name: picture(plot) for plot in plots},
            },
            check_results=[
                dg.AssetCheckResult(
                    check_name="metric_floors",
                    passed=auroc is not None
                    and ece is not None
                    and auroc >= gates.min_auroc
                    and ece <= gates.max_ece,
                    metadata={"min_auroc": gates.min_auroc, "max_ece": gates.max_ece},
                )
            ],
        )

    return [preprocessor, recipe, federated_model, federated_evaluation]


def _or_none(figure: float | None) -> float | str:
    return "n/a" if figure is None else figure


def _fell(first: float | None, last: float | None) -> bool:
    return first is not None and last is not None and last < first


def _evaluation_metadata(found: "ModelEvaluation") -> dict[str, dg.MetadataValue]:
    from fl_assets.coordinator.summary import evaluation_table

    subgroups = [
        (
            name,
            column,
            group,
            subgroup.n,
            "n/a" if subgroup.auroc is None else f"{subgroup.auroc:.3f}",
        )
        for name, site in found.sites.items()
        for column, groups in site.subgroups.items()
        for group, subgroup in groups.items()
    ]
    return {
        "hospitals": table(evaluation_table(found)),
        "subgroups": markdown_table(["hospital", "column", "group", "rows", "AUROC"], subgroups),
    }

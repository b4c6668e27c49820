"""The main job on a small world: everything once, nothing twice, and only what a change touches."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import dagster as dg
import pytest
import yaml

from fl_assets import pipeline
from fl_assets.cohorts.synthetic import generate
from fl_assets.coordinator.comparison import load_comparison
from fl_assets.coordinator.sweep_report import load_sweep_result
from fl_assets.coordinator.training import load_release
from fl_assets.federation.recipe import UnknownRecipeError
from fl_assets.pipeline import NotReadyError, Outcome, StepFailedError
from fl_assets.settings import Settings
from fl_assets.site import intake, partitions
from fl_assets.site.deletion import delete_data
from fl_assets.tracking.models import CHAMPION, Registry
from fl_assets.tracking.runs import Tracking
from fl_assets_tests.world import dagster_instance, set_gates

LOGS = ("privacy_ledger", "egress_log")
AT_HOSPITAL = (
    "hospital_uploads",
    "hospital_records",
    "hospital_partitions",
    "hospital_profile",
    "local_baseline",
)


def materialised(outcomes: list[Outcome]) -> set[tuple[str, str | None]]:
    return {(asset, o.step.partition) for o in outcomes for asset in o.materialised}


def test_the_main_job_materialises_everything(
    finished_world: Settings, instance: dg.DagsterInstance
) -> None:
    recorded = {
        key.to_user_string(): set(instance.get_materialized_partitions(key))
        for key in instance.all_asset_keys()
    }
    hospitals, recipes = set(finished_world.consortium.hospital_names), {"small-lr", "small-mlp"}
    for asset in (*AT_HOSPITAL, *LOGS):
        assert recorded.pop(asset) == hospitals, asset
    for asset in ("recipe", "federated_model", "federated_evaluation", "membership_audit"):
        assert recorded.pop(asset) == recipes, asset
    assert set(recorded) == {
        "raw_dataset", "validated_dataset", "preprocessor", "centralized_baseline",
        "model_comparison", "champion_model",
    }  # fmt: skip

    champion = registry(finished_world).alias(CHAMPION)
    assert champion is not None
    kinds = [m.kind for m in load_comparison(finished_world.coordinator_store()).models]
    assert kinds == [
        *["reference"] * 2, *["centralised"] * 3, *["local"] * 3, *["federated"] * 2,
    ]  # fmt: skip
    assert finished_world.coordinator_store().exists("report.html")
    assert failed_checks(instance) == []


def test_a_second_run_on_unchanged_data_does_next_to_nothing(
    finished_world: Settings, instance: dg.DagsterInstance
) -> None:
    before = registry(finished_world).alias(CHAMPION)

    outcomes = list(pipeline.run(finished_world, instance))

    assert materialised(outcomes) == {
        ("raw_dataset", None), ("recipe", "small-lr"), ("recipe", "small-mlp"),
    }  # fmt: skip
    after = registry(finished_world).alias(CHAMPION)
    assert before is not None
    assert after is not None
    assert after.version == before.version


def test_an_edited_recipe_retrains_that_recipe_alone(
    finished_world: Settings, instance: dg.DagsterInstance
) -> None:
    file = finished_world.recipes / "small-mlp.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"rounds": 3}))

    again = materialised(list(pipeline.run(finished_world, instance)))

    assert {p for a, p in again if a == "federated_model"} == {"small-mlp"}
    assert ("model_comparison", None) in again
    assert not {a for a, _ in again} & {"hospital_records", "preprocessor", "local_baseline"}


def test_another_data_set_takes_the_place_of_the_first(
    finished_world: Settings, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    file = tmp_path / "other.csv"
    generate(finished_world.cohort, 700, seed=5).to_csv(file, index=False)

    other = dataclasses.replace(finished_world, data=str(file))
    # What follows the hospitals' data is the other tests' matter, and slow.
    steps = pipeline.run(other, instance)
    again = materialised(
        list(itertools.takewhile(lambda o: o.step.assets != ("preprocessor",), steps))
    )
    steps.close()

    assert {p for a, p in again if a == "hospital_records"} == set(
        finished_world.consortium.hospital_names
    )
    rows = [
        intake.load_manifest(finished_world.site_store(name)).rows
        for name in finished_world.consortium.hospital_names
    ]
    assert sum(rows) == 700


def test_a_bad_file_stops_the_job_with_its_reason_and_leaves_the_old_champion(
    finished_world: Settings, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    before = registry(finished_world).alias(CHAMPION)
    file = tmp_path / "cut.csv"
    whole = generate(finished_world.cohort, 50, seed=5).to_csv(index=False)
    file.write_text(whole[:-30])

    with pytest.raises(StepFailedError, match=r"raw_dataset failed: TruncatedFileError: cut\.csv"):
        list(pipeline.run(dataclasses.replace(finished_world, data=str(file)), instance))

    after = registry(finished_world).alias(CHAMPION)
    assert before is not None
    assert after is not None
    assert after.version == before.version


def test_a_failing_recipe_does_not_hold_up_the_others(
    finished_world: Settings, instance: dg.DagsterInstance
) -> None:
    (finished_world.recipes / "small-mlp.yaml").write_text("model: {kind: forest}\n")

    outcomes: list[Outcome] = []

    def run() -> None:
        outcomes.extend(pipeline.run(finished_world, instance))

    with pytest.raises(StepFailedError, match=r"(?s)recipe of small-mlp failed: .*model"):
        run()

    assert [o.step.partition for o in outcomes if o.status == "failed"] == ["small-mlp"]
    champion = registry(finished_world).alias(CHAMPION)
    assert champion is not None
    assert champion.tags["recipe"] == "small-lr"


def test_a_candidate_below_a_gate_is_not_promoted_and_the_gate_is_named(
    finished_world: Settings, instance: dg.DagsterInstance
) -> None:
    set_gates(finished_world, min_auroc=0.0, min_gain_over_age_only=0.9, max_ece=1.0)

    before = registry(finished_world).alias(CHAMPION)

    with pytest.raises(
        StepFailedError, match=r"not promoted.*AUROC over age alone: asked at least"
    ):
        list(pipeline.run(dataclasses.replace(finished_world), instance))

    after = registry(finished_world).alias(CHAMPION)
    assert before is not None
    assert after is not None
    assert after.version == before.version
    assert failed_checks(instance) == []


def test_a_model_below_a_metric_floor_is_reported_by_its_check(
    finished_world: Settings, instance: dg.DagsterInstance
) -> None:
    set_gates(finished_world, min_auroc=0.999)

    with pytest.raises(
        StepFailedError, match=r"AUROC, mean over 2 of 3 hospitals: asked at least 0\.999"
    ):
        list(pipeline.run(dataclasses.replace(finished_world), instance))

    assert set(failed_checks(instance)) == {"metric_floors"}


def test_recipes_are_trained_on_what_the_main_job_made(
    finished_world: Settings, instance: dg.DagsterInstance
) -> None:
    file = finished_world.recipes / "small-mlp.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"rounds": 3}))

    names = ["small-lr", "small-mlp"]
    again = materialised(list(pipeline.run_recipes(finished_world, instance, names)))

    hospitals = finished_world.consortium.hospital_names
    assert again == {
        ("recipe", "small-lr"), ("recipe", "small-mlp"), ("federated_model", "small-mlp"),
        ("federated_evaluation", "small-mlp"), ("membership_audit", "small-mlp"),
        ("model_comparison", None), *((log, name) for log in LOGS for name in hospitals),
    }  # fmt: skip


def test_a_forced_recipe_is_trained_to_the_same_weights_and_a_new_version(
    finished_world: Settings, instance: dg.DagsterInstance
) -> None:
    store = finished_world.coordinator_store()
    before = load_release(store, "small-lr")
    weights = store.get(f"runs/{before.run}/weights.npz")

    fresh = list(pipeline.run_recipes(finished_world, instance, ["small-lr"], fresh=True))
    assert ("federated_model", "small-lr") not in materialised(fresh)
    assert load_release(store, "small-lr") == before

    forced = list(pipeline.run_recipes(finished_world, instance, ["small-lr"], force=True))
    assert ("federated_evaluation", "small-lr") in materialised(forced)
    after = load_release(store, "small-lr")
    assert (after.run, after.version) == (before.run, "3")
    assert store.get(f"runs/{after.run}/weights.npz") == weights


def test_nothing_is_trained_before_the_main_job_or_under_an_unknown_name(
    world: Settings, finished_world: Settings, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    with dagster_instance(tmp_path / "nothing") as empty:
        with pytest.raises(NotReadyError, match="preprocessor was never materialised"):
            list(pipeline.run_recipes(world, empty, ["small-lr"]))
        with pytest.raises(NotReadyError):
            pipeline.run_sweep(world, empty, "small")
    with pytest.raises(UnknownRecipeError, match="'nope' is no recipe"):
        list(pipeline.run_recipes(finished_world, instance, ["small-lr", "nope"]))
    with pytest.raises(UnknownRecipeError, match="'nope' is no sweep"):
        pipeline.run_sweep(finished_world, instance, "nope")


def test_a_sweep_is_an_asset_with_its_table_plots_and_recipe(
    finished_world: Settings, instance: dg.DagsterInstance
) -> None:
    versions = registry(finished_world).tracking.client.search_model_versions()
    pipeline.run_sweep(finished_world, instance, "small")

    event = instance.get_latest_materialization_event(dg.AssetKey("recipe_sweep"))
    assert event is not None
    assert event.asset_materialization is not None
    metadata = event.asset_materialization.metadata
    result = load_sweep_result(finished_world.coordinator_store(), "small")
    assert metadata["best"].value == result.trials[result.best].objective
    assert result.recipe in str(metadata["recipe"].value)
    for plot in ("optimisation_history", "slices"):
        assert "data:image/png;base64," in str(metadata[plot].value)
    # The models of a search are nobody's candidates.
    assert registry(finished_world).tracking.client.search_model_versions() == versions


def test_a_sweep_that_does_not_fit_says_why(
    finished_world: Settings, instance: dg.DagsterInstance
) -> None:
    file = finished_world.recipes / "sweeps" / "small.yaml"
    space = {"rounds": {"low": 0, "high": 5}}
    file.write_text(yaml.safe_dump({"recipe": "small-lr", "space": space}))
    with pytest.raises(StepFailedError, match=r"(?s)recipe_sweep of small failed: .*rounds = 0"):
        pipeline.run_sweep(finished_world, instance, "small")


def registry(settings: Settings) -> Registry:
    tracking = Tracking(settings.tracking_uri, settings.consortium.name)
    return Registry(tracking, settings.model_name)


def failed_checks(instance: dg.DagsterInstance) -> list[str]:
    """Names of the checks that failed in any run."""
    entries = [
        entry
        for run in instance.get_runs()
        for entry in instance.all_logs(
            run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION
        )
    ]
    found = [entry.asset_check_evaluation for entry in entries]
    return [check.check_name for check in found if check is not None and not check.passed]


def test_a_new_upload_is_collected_and_the_models_are_trained_anew(
    finished_world: Settings, instance: dg.DagsterInstance
) -> None:
    rows = generate(finished_world.cohort, 60, seed=11)
    rows["id"] = [f"new-{i}" for i in range(60)]
    store = finished_world.site_store("hospital-c")
    before = intake.load_manifest(store).rows
    store.put("incoming/second.csv", rows.to_csv(index=False).encode())

    again = materialised(list(pipeline.run(finished_world, instance)))

    assert {p for a, p in again if a == "hospital_records"} == {"hospital-c"}
    assert intake.load_manifest(store).rows == before + 60
    assert {p for a, p in again if a == "federated_model"} == {"small-lr", "small-mlp"}
    # And then nothing more.
    assert {a for a, _ in materialised(list(pipeline.run(finished_world, instance)))} == {
        "raw_dataset",
        "recipe",
    }


def test_steps_that_a_hospital_ran_by_itself_are_noticed(
    finished_world: Settings, instance: dg.DagsterInstance
) -> None:
    store = finished_world.site_store("hospital-a")
    rows = generate(finished_world.cohort, 60, seed=12)
    rows["id"] = [f"own-{i}" for i in range(60)]
    store.put("incoming/own.csv", rows.to_csv(index=False).encode())
    intake.collect_records(store, finished_world.cohort)
    partitions.build_partitions(store, finished_world.cohort, finished_world.consortium.split)

    again = materialised(list(pipeline.run(finished_world, instance)))

    assert ("hospital_partitions", "hospital-a") in again
    assert ("federated_model", "small-lr") in again
    assert ("champion_model", None) in again


def test_what_a_hospital_has_deleted_is_not_up_to_date(
    finished_world: Settings, instance: dg.DagsterInstance
) -> None:
    delete_data(finished_world.site_store("hospital-b"), "hospital-b")
    outcomes = pipeline.run(finished_world, instance)
    # The two steps before the hospitals' own, then those.
    first = [o for o in itertools.islice(outcomes, 5) if o.step.of_hospital]
    assert {o.step.partition: o.materialised for o in first} == {
        "hospital-a": (), "hospital-b": AT_HOSPITAL, "hospital-c": ()
    }  # fmt: skip
    assert partitions.load_manifest(finished_world.site_store("hospital-b")).rows


def test_a_hospital_without_uploads_does_not_hold_up_the_others(
    world: Settings, instance: dg.DagsterInstance
) -> None:
    config = yaml.safe_load(world.consortium_file.read_text())
    config["simulated"] = False
    config["privacy_budget"] = {"unprotected_runs": True}
    config["hospitals"].insert(0, {"name": "hospital-new"})
    world.consortium_file.write_text(yaml.safe_dump(config))
    # With so few patients the attack's intervals are wide, its control's as well.
    set_gates(
        world, min_auroc=0.0, min_gain_over_age_only=-1.0, max_ece=1.0, max_membership_auc=0.5
    )
    real = dataclasses.replace(world)
    outcomes: list[Outcome] = []

    def run() -> None:
        outcomes.extend(pipeline.run(real, instance))

    with pytest.raises(StepFailedError, match=r"hospital-new failed: NoRecordsError"):
        run()

    assert [o.step.partition for o in outcomes if o.failure] == ["hospital-new"]
    champion = registry(real).alias(CHAMPION)
    assert champion is not None


def test_the_models_run_in_mlflow_has_rounds_figures_and_plots(finished_world: Settings) -> None:
    release = load_release(finished_world.coordinator_store(), "small-lr")
    client = Tracking(finished_world.tracking_uri, finished_world.consortium.name).client
    figures = client.get_run(release.mlflow_run).data.metrics
    assert {"train_loss", "validation_loss", "threshold", "hospital-a/test/auroc"} <= set(figures)
    plots = {Path(file.path).name for file in client.list_artifacts(release.mlflow_run, "plots")}
    assert plots == {
        "validation_auroc_per_round.png",
        "roc_curves.png",
        "calibration_curves.png",
        "attack_roc.png",
    }

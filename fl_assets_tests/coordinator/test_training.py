"""One training from recipe to registered version, and what happens when it is asked for again."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest

from fl_assets.coordinator.preprocessors import build_preprocessors
from fl_assets.coordinator.simulation import upload
from fl_assets.coordinator.training import (
    NoSiteReadyError,
    is_current,
    load_history,
    load_release,
    operating_threshold,
    train,
)
from fl_assets.federation.job import FederationJob, FederationResult, load_result
from fl_assets.federation.recipe import Recipe, load_recipe
from fl_assets.federation.runtimes.inprocess import InProcessRuntime
from fl_assets.learning.metrics import weighted_mean
from fl_assets.settings import Settings
from fl_assets.site import intake, partitions
from fl_assets.site.profile import load_profile
from fl_assets.tracking.models import Registry
from fl_assets.tracking.runs import Tracking, TrackingError


class CountingRuntime(InProcessRuntime):
    """The real runtime, which also counts."""

    def __init__(self) -> None:
        self.runs = 0

    def run(self, job: FederationJob) -> FederationResult:
        self.runs += 1
        return super().run(job)


@pytest.fixture
def ready(world: Settings) -> Settings:
    profiles = {
        name: load_profile(world.site_store(name)) for name in world.consortium.hospital_names
    }
    build_preprocessors(world.coordinator_store(), world.cohort, profiles)
    return world


@pytest.fixture
def recipe(ready: Settings) -> Recipe:
    return load_recipe(ready.recipes / "small-lr.yaml")


def test_the_release_record_walks_back_to_every_file(ready: Settings, recipe: Recipe) -> None:
    release = train(ready, recipe, InProcessRuntime(), {"dagster.run_id": "r1"})

    assert set(release.hospitals) == set(ready.consortium.hospital_names)
    for name, manifest in release.hospitals.items():
        store = ready.site_store(name)
        for file in manifest.files.values():
            assert hashlib.sha256(store.get(file.key)).hexdigest() == file.sha256
    assert release.contract == ready.cohort.version
    assert release.recipe_hash == recipe.hash
    assert [r.round for r in release.rounds] == [1, 2, 3]
    assert all(set(r.participants) == set(release.hospitals) for r in release.rounds)

    tracking = Tracking(ready.tracking_uri, ready.consortium.name)
    run = tracking.client.get_run(release.mlflow_run)
    assert run.info.status == "FINISHED"
    assert run.data.tags["dagster.run_id"] == "r1"
    assert run.data.params["recipe_hash"] == recipe.hash
    inputs = {i.dataset.name: i.dataset.digest for i in run.inputs.dataset_inputs}
    assert inputs == {name: m.version for name, m in release.hospitals.items()}
    files = {file.path for file in tracking.client.list_artifacts(release.mlflow_run)}
    assert "release.json" in files
    for name in release.hospitals:
        history = tracking.client.get_metric_history(release.mlflow_run, f"{name}/train_loss")
        assert [metric.step for metric in history] == [1, 2, 3]
    version = tracking.client.get_model_version(release.model, release.version)
    took_part = {"rounds": "3", "participants": "3", "dropouts": "0"}
    assert took_part.items() <= version.tags.items()


def test_the_same_inputs_train_and_register_once(ready: Settings, recipe: Recipe) -> None:
    runtime = CountingRuntime()
    first = train(ready, recipe, runtime, {})
    second = train(ready, recipe, runtime, {})

    assert runtime.runs == 1
    assert second == first
    assert load_release(ready.coordinator_store(), recipe.name) == first


def test_a_fresh_training_reuses_nothing_and_gives_the_same_weights(
    ready: Settings, recipe: Recipe
) -> None:
    runtime = CountingRuntime()
    first = train(ready, recipe, runtime, {})
    before = load_result(ready.coordinator_store(), first.run)
    second = train(ready, recipe, runtime, {}, fresh=True)
    after = load_result(ready.coordinator_store(), second.run)

    assert runtime.runs == 2
    assert second.version != first.version
    assert second.run == first.run
    for name, weights in before.weights.items():
        assert (after.weights[name] == weights).all()


def test_a_release_is_current_until_its_inputs_change(ready: Settings, recipe: Recipe) -> None:
    release = train(ready, recipe, InProcessRuntime(), {})
    assert is_current(ready, recipe, release)
    assert not is_current(ready, recipe.model_copy(update={"rounds": 9}), release)
    store = ready.site_store("hospital-a")
    split = ready.consortium.split.model_copy(update={"salt": "another-salt"})
    partitions.build_partitions(store, ready.cohort, split)
    assert not is_current(ready, recipe, release)


def test_new_rows_or_another_seed_train_anew(ready: Settings, recipe: Recipe) -> None:
    runtime = CountingRuntime()
    first = train(ready, recipe, runtime, {})
    other_seed = train(ready, recipe.model_copy(update={"seed": 7}), runtime, {})
    assert other_seed.version != first.version

    store = ready.site_store("hospital-a")
    records = partitions.load_part(store, partitions.load_manifest(store), "train")
    upload(store, records.head(100), ready.cohort)
    intake.collect_records(store, ready.cohort)
    partitions.build_partitions(store, ready.cohort, ready.consortium.split)
    fewer_rows = train(ready, recipe, runtime, {})

    assert runtime.runs == 3
    assert fewer_rows.hospitals["hospital-a"].version != first.hospitals["hospital-a"].version


@pytest.mark.faults
def test_an_mlflow_that_is_down_stops_nothing_that_is_trained(
    ready: Settings, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run opens, then registering fails; asked again, it registers without training.

    The second MLflow run is told of the rounds, though it was not there when they ended.
    """
    runtime = CountingRuntime()
    original = Registry.register
    calls = []

    def fails_once(self: Registry, *arguments: object) -> str:
        calls.append(arguments)
        if len(calls) == 1:
            raise TrackingError(ready.tracking_uri, ConnectionError("refused"))
        return original(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Registry, "register", fails_once)
    with pytest.raises(TrackingError, match="Nothing trained is lost"):
        train(ready, recipe, runtime, {})
    release = train(ready, recipe, runtime, {})

    assert runtime.runs == 1
    assert load_result(ready.coordinator_store(), release.run).weights
    client = Tracking(ready.tracking_uri, ready.consortium.name).client
    steps = [m.step for m in client.get_metric_history(release.mlflow_run, "train_loss")]
    assert steps == [1, 2, 3]


@pytest.mark.faults
def test_an_mlflow_that_cannot_be_reached_at_all_is_a_clear_error(
    ready: Settings, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    away = dataclasses.replace(ready, tracking_uri="http://127.0.0.1:9")
    with pytest.raises(TrackingError, match=r"http://127\.0\.0\.1:9"):
        train(away, recipe, InProcessRuntime(), {})


def test_the_threshold_is_the_weighted_mean_of_the_sites(ready: Settings, recipe: Recipe) -> None:
    release = train(ready, recipe, InProcessRuntime(), {})
    final = load_history(ready.coordinator_store(), release).final
    expected = weighted_mean([(r.threshold, r.examples) for r in final.values()])
    assert release.threshold == expected
    nobody = load_history(ready.coordinator_store(), release).model_copy(update={"final": {}})
    assert operating_threshold(nobody, 0.07) == 0.07


def test_fewer_ready_hospitals_than_the_quorum(ready: Settings, recipe: Recipe) -> None:
    wants_four = recipe.model_copy(update={"quorum": 4})
    with pytest.raises(NoSiteReadyError, match="needs 4 hospitals with training rows, 3 have them"):
        train(ready, wants_four, InProcessRuntime(), {})

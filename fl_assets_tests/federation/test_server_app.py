import logging

import numpy as np
import pytest
import torch

from fl_assets.federation.job import FederationError, FederationJob
from fl_assets.federation.runtimes.inprocess import InProcessRuntime
from fl_assets.federation.strategies.consortium import QuorumNotReachedError
from fl_assets.federation.strategies.flower import TooFewSitesError
from fl_assets.learning.metrics import auroc
from fl_assets.learning.models import model_for
from fl_assets.learning.training import predict
from fl_assets.settings import Settings
from fl_assets.site.partitions import load_manifest, load_part
from fl_assets.site.training import SiteTrainer
from fl_assets_tests.federation.conftest import MakeJob


def left_behind(world: Settings, job: FederationJob) -> list[str]:
    folder = f"runs/{job.run}/"
    return [i.key.removeprefix(folder) for i in world.coordinator_store().list(folder)]


def test_one_round_is_the_weighted_mean_of_what_the_sites_trained(
    make_job: MakeJob, world: Settings
) -> None:
    job = make_job(rounds=1, seed=3)
    result = InProcessRuntime().run(job)

    plan = job.recipe.local_training
    start = model_for(plan.model, job.preprocessor, 3).state_dict()
    updates = []
    for name in job.sites:
        trainer = SiteTrainer(name, world.site_store(name), plan, job.preprocessor)
        updates.append(trainer.train_round({k: v.clone() for k, v in start.items()}, 1))
    rows = [update.examples for update in updates]
    assert len(set(rows)) == 3
    for name, weights in result.weights.items():
        by_site = [update.weights[name].double().numpy() for update in updates]
        np.testing.assert_allclose(weights, np.average(by_site, axis=0, weights=rows), rtol=1e-5)
    assert {n: s.examples for n, s in result.history.rounds[0].sites.items()} == dict(
        zip(job.sites, rows, strict=True)
    )


def test_the_history_is_the_whole_story(make_job: MakeJob, world: Settings) -> None:
    job = make_job(rounds=3)
    result = InProcessRuntime().run(job)
    history = result.history

    assert [r.round for r in history.rounds] == [1, 2, 3]
    assert history.participants == {
        name: load_manifest(world.site_store(name)).version for name in job.sites
    }
    model = model_for(job.recipe.model, job.preprocessor, 0)
    model.load_state_dict({k: torch.from_numpy(v) for k, v in result.weights.items()})
    store = world.site_store("hospital-c")
    validation = load_part(store, load_manifest(store), "validation")
    scores = predict(model, torch.from_numpy(job.preprocessor.transform(validation)))
    expected = auroc(validation["stroke"].to_numpy(), scores)
    assert history.final["hospital-c"].auroc == pytest.approx(expected)
    assert history.pretraining == history.resumed == ()
    assert left_behind(world, job) == ["history.json", "weights.npz"]


@pytest.mark.parametrize(
    "model", [{"kind": "logistic_regression"}, {"kind": "mlp", "hidden": [8]}], ids=["lr", "mlp"]
)
def test_divergence_ends_the_run_with_advice(
    make_job: MakeJob, world: Settings, model: dict[str, object]
) -> None:
    job = make_job(model=model, optimizer={"lr": 1e6}, rounds=5)
    with pytest.raises(FederationError, match=r"diverged.*lower the learning rate"):
        InProcessRuntime().run(job)
    assert left_behind(world, job) == []


@pytest.mark.parametrize(("names", "quorum"), [((), None), (("hospital-a",), 2)])
def test_too_few_sites_fail_at_once(
    make_job: MakeJob, world: Settings, names: tuple[str, ...], quorum: int | None
) -> None:
    job = make_job(quorum=quorum)
    job = job.model_copy(update={"sites": {name: job.sites[name] for name in names}})
    with pytest.raises(TooFewSitesError, match="lower `quorum`"):
        InProcessRuntime().run(job)
    assert left_behind(world, job) == []


def test_a_run_below_its_quorum_leaves_no_result(make_job: MakeJob, world: Settings) -> None:
    world.site_store("hospital-b").delete("partitions/manifest.json")
    job = make_job()
    with pytest.raises(QuorumNotReachedError, match=r"hospital-b: ObjectNotFoundError: .*manifest"):
        InProcessRuntime().run(job)
    assert left_behind(world, job) == []


def test_a_training_ends_with_its_model_while_mlflow_is_down(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    nobody = "http://127.0.0.1:1"
    job = make_job().model_copy(
        update={"tracking_uri": nobody, "mlflow_run": "0" * 32, "progress": True}
    )
    with caplog.at_level(logging.WARNING):
        result = InProcessRuntime().run(job)
    assert len(result.history.rounds) == 2
    assert "never reached MLflow; the run's history has them" in caplog.text

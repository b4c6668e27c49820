from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from fl_assets.federation.job import FederationJob
from fl_assets.federation.phases import NothingSharedError, PhasePlan, plan_phases
from fl_assets.federation.recipe import LocalLayersConfig
from fl_assets.federation.runtimes.inprocess import InProcessRuntime
from fl_assets.learning.models import local_names, model_for
from fl_assets.settings import Settings
from fl_assets.site.egress import EgressLog
from fl_assets_tests.federation.conftest import MakeJob

EMBEDDING = {"kind": "embedding", "encoder": [6, 3]}


def first_weights(job: FederationJob) -> dict[str, torch.Tensor]:
    return model_for(job.recipe.model, job.preprocessor, job.recipe.seed).state_dict()


def plans(job: FederationJob) -> list[PhasePlan]:
    return plan_phases(job.recipe, model_for(job.recipe.model, job.preprocessor, job.recipe.seed))


def test_a_plain_recipe_has_one_phase_that_sends_everything(make_job: MakeJob) -> None:
    job = make_job(model=EMBEDDING)
    (training,) = plans(job)
    assert (training.name, training.rounds, training.action) == ("training", 2, None)
    assert list(training.sent) == list(first_weights(job))


def test_pretraining_sends_the_encoder_and_averages_plainly(make_job: MakeJob) -> None:
    job = make_job(
        model=EMBEDDING, pretraining={"rounds": 7}, strategy={"kind": "fedadam", "mu": 0.5}
    )
    pretraining, training = plans(job)
    assert (pretraining.name, pretraining.rounds) == ("pretraining", 7)
    assert pretraining.action == "pretrain"
    assert pretraining.recipe.strategy.kind == "fedavg"
    assert set(training.sent) - set(pretraining.sent) == {"head.weight", "head.bias"}
    assert training.recipe == job.recipe


def test_layers_of_a_hospital_are_sent_in_no_phase(make_job: MakeJob) -> None:
    job = make_job(
        model=EMBEDDING, pretraining={}, personalisation={"kind": "local_layers", "layers": "norm"}
    )
    model = model_for(job.recipe.model, job.preprocessor, 0)
    norms = local_names(model, "norm")
    assert norms
    for phase in plans(job):
        assert not norms & set(phase.sent)


def test_a_recipe_that_shares_nothing_is_refused(make_job: MakeJob) -> None:
    job = make_job(personalisation={"kind": "local_layers", "layers": "head"})
    with pytest.raises(NothingSharedError, match="recipe small keeps every layer"):
        InProcessRuntime().run(job)


@pytest.mark.parametrize("layers", ["norm", "head"])
def test_the_stored_model_is_whole_and_has_first_values_where_none_is_shared(
    make_job: MakeJob, layers: Any
) -> None:
    job = make_job(model=EMBEDDING, personalisation={"kind": "local_layers", "layers": layers})
    result = InProcessRuntime().run(job)

    first = first_weights(job)
    model = model_for(job.recipe.model, job.preprocessor, 0)
    model.load_state_dict({k: torch.from_numpy(v) for k, v in result.weights.items()})
    assert isinstance(job.recipe.personalisation, LocalLayersConfig)
    kept = local_names(model, layers)
    for name, weights in result.weights.items():
        assert np.array_equal(weights, first[name].numpy()) == (name in kept), name


def test_training_begins_with_the_pretrained_encoder(make_job: MakeJob, world: Settings) -> None:
    still = {"kind": "sgd", "lr": 1e-30}
    shape = {"model": EMBEDDING, "rounds": 1, "optimizer": still, "seed": 4}
    job = make_job("r", **shape, pretraining={"rounds": 3, "lr": 0.01})
    result = InProcessRuntime().run(job)

    losses = [r.validation_loss for r in result.history.pretraining]
    assert len(losses) == 3
    assert losses[-1] < losses[0]
    # Training did not move anything, so this is what pre-training left.
    first = first_weights(job)
    for name, weights in result.weights.items():
        moved = not np.allclose(weights, first[name].numpy(), atol=1e-6)
        assert moved == name.startswith("encoder."), name
    details = [e.detail for e in EgressLog(world.site_store("hospital-a")).entries()]
    assert details[-5:] == [
        *(f"pre-training round {r}" for r in (1, 2, 3)),
        "round 1",
        "round 1",
    ]


def test_pretraining_needs_no_label(make_job: MakeJob) -> None:
    """The reports of its rounds say nothing of the label."""
    job = make_job(model=EMBEDDING, pretraining={"rounds": 1}, rounds=1)
    (report,) = InProcessRuntime().run(job).history.pretraining
    assert report.validation_auroc is None
    assert report.validation_loss is not None
    assert "stroke" not in json.dumps(report.model_dump())

"""What stays at a hospital while a federation trains, through every runtime's own apps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, Message

from fl_assets.federation import client_app, rounds, server_app
from fl_assets.federation.checkpoints import Checkpoint, Checkpoints
from fl_assets.federation.job import FederationJob, FederationResult
from fl_assets.federation.participant import NoPretrainingError, Participant
from fl_assets.federation.recipe import FineTuningConfig
from fl_assets.federation.runtimes import inprocess
from fl_assets.federation.runtimes.inprocess import InProcessRuntime
from fl_assets.learning.metrics import auroc, log_loss
from fl_assets.learning.models import local_names, model_for
from fl_assets.learning.training import predict
from fl_assets.learning.weights import Weights
from fl_assets.settings import Settings
from fl_assets.site.client_state import ClientState, Phase
from fl_assets.site.egress import EgressLog
from fl_assets.site.partitions import load_manifest, load_part
from fl_assets.site.personal import load_own_model, load_personal
from fl_assets.site.training import SiteTrainer, Update
from fl_assets_tests.federation.conftest import MakeJob
from fl_assets_tests.federation.final_figures import final_figures

EMBEDDING = {"kind": "embedding", "encoder": [6, 4], "norm": "layer"}
ADAM = {"kind": "adam", "lr": 0.01}
FEDBN: dict[str, Any] = {
    "model": EMBEDDING,
    "optimizer": ADAM,
    "rounds": 4,
    "quorum": 2,
    "personalisation": {"kind": "local_layers", "layers": "norm"},
}
PRETRAINED = FEDBN | {"pretraining": {"rounds": 3, "lr": 0.01, "noise": 0.1}, "rounds": 2}
TUNED = FEDBN | {"personalisation": {"kind": "fine_tuning", "epochs": 2}, "rounds": 2}


@pytest.fixture
def messages(monkeypatch: pytest.MonkeyPatch) -> list[Message]:
    """Everything that crosses the wire from now on, in both directions."""
    seen: list[Message] = []
    through = inprocess.message_over_the_wire

    def record(message: Message) -> Message:
        copy = through(message)
        seen.append(copy)
        return copy

    monkeypatch.setattr(inprocess, "message_over_the_wire", record)
    return seen


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every site is restarted before every message."""
    through = client_app._Asked.by

    def forget(context: Any) -> Any:
        client_app._sites.clear()
        return through(context)

    monkeypatch.setattr(client_app._Asked, "by", forget)


def run(job: FederationJob) -> FederationResult:
    return InProcessRuntime().run(job)


def own(world: Settings, job: FederationJob) -> dict[str, Weights]:
    """The hospitals' personal models of a run."""
    found = {name: load_personal(world.site_store(name), job.run) for name in job.sites}
    return {name: weights for name, weights in found.items() if weights is not None}


def states(world: Settings, job: FederationJob, hospital: str) -> list[str]:
    folder = f"federation/{job.run}/"
    keys = [info.key for info in world.site_store(hospital).list(folder)]
    return [key.removeprefix(folder).removesuffix(".npz") for key in keys]


def state_before(
    world: Settings, job: FederationJob, hospital: str, phase: Phase, round_: int
) -> Weights:
    found = ClientState(world.site_store(hospital), job.run, rounds=2).before(phase, round_)
    assert found is not None
    return found


def bits(weights: Weights) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in weights.items()}


def all_bits(world: Settings, job: FederationJob, result: FederationResult) -> object:
    return bits(result.weights), {name: bits(w) for name, w in own(world, job).items()}


def norms(job: FederationJob) -> frozenset[str]:
    found = local_names(model_for(job.recipe.model, job.preprocessor, job.recipe.seed), "norm")
    assert found
    return found


def dying(
    monkeypatch: pytest.MonkeyPatch, phase: str, round_: int, *, saved: bool
) -> Callable[[], None]:
    """Let the server die around the checkpoint of a round; return what brings it back."""
    save = Checkpoints.save

    def die(self: Checkpoints, checkpoint: Checkpoint) -> None:
        dead = (checkpoint.phase, checkpoint.round) == (phase, round_)
        if saved or not dead:
            save(self, checkpoint)
        if dead:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoints, "save", die)

    def revive() -> None:
        monkeypatch.setattr(Checkpoints, "save", save)
        # The sites' processes are new as well.
        client_app._sites.clear()

    return revive


@pytest.mark.parametrize("recipe", [FEDBN, PRETRAINED], ids=["fedbn", "pretrained"])
def test_norms_differ_between_hospitals_and_are_in_no_message(
    make_job: MakeJob, world: Settings, messages: list[Message], recipe: dict[str, Any]
) -> None:
    job = make_job(**recipe)
    result = run(job)
    local, personal = norms(job), own(world, job)

    for name in local:
        assert len({weights[name].tobytes() for weights in personal.values()}) == 3
    records = [m.content.array_records.get(rounds.ARRAYS) for m in messages if m.has_content()]
    names = {name for record in records if record for name in record}
    assert names == result.weights.keys() - local
    sent = b"".join(array.data for record in records if record for array in record.values())
    for weights in personal.values():
        for name in local:
            assert weights[name].tobytes() not in sent
        # What is shared is the last global model's.
        assert {n: w.tobytes() for n, w in weights.items() if n not in local} == {
            n: w.tobytes() for n, w in result.weights.items() if n not in local
        }


def test_the_global_model_has_first_values_where_hospitals_keep_theirs(
    make_job: MakeJob, world: Settings
) -> None:
    job = make_job(**FEDBN)
    result = run(job)
    first = model_for(job.recipe.model, job.preprocessor, job.recipe.seed).state_dict()
    for name in norms(job):
        np.testing.assert_array_equal(result.weights[name], first[name].numpy())
    # Its figures are of that very model, as anybody would load it.
    model = model_for(job.recipe.model, job.preprocessor, 0)
    model.load_state_dict({n: torch.from_numpy(w) for n, w in result.weights.items()})
    for name, report in result.history.final.items():
        store = world.site_store(name)
        frame = load_part(store, load_manifest(store), "validation")
        scores = predict(model, torch.from_numpy(job.preprocessor.transform(frame)))
        assert report.loss == pytest.approx(log_loss(frame["stroke"].to_numpy(), scores))


@pytest.mark.parametrize(
    "recipe",
    [FEDBN, FEDBN | {"personalisation": {"kind": "local_layers", "layers": "head"}}, TUNED],
    ids=["norms", "head", "fine-tuning"],
)
def test_the_figures_of_a_personal_model_are_those_of_the_stored_one(
    make_job: MakeJob, world: Settings, recipe: dict[str, Any]
) -> None:
    job = make_job(**recipe)
    final = run(job).history.final
    assert set(final) == set(job.sites)
    for name, report in final.items():
        store = world.site_store(name)
        model = load_own_model(store, job.run, job.recipe.model, job.preprocessor)
        assert model is not None
        frame = load_part(store, load_manifest(store), "validation")
        scores, y = model.scorer(job.preprocessor.transform(frame)), frame["stroke"].to_numpy()
        assert report.personal_loss == pytest.approx(log_loss(y, scores))
        assert report.personal_auroc == (pytest.approx(auroc(y, scores)) if y.any() else None)
        assert report.personal_loss != report.loss


def test_fine_tuning_starts_from_the_final_model_and_changes_nothing_of_it(
    make_job: MakeJob, world: Settings
) -> None:
    job = make_job(**TUNED)
    result = run(job)
    plain = run(make_job("plain", **TUNED | {"personalisation": None}))
    assert bits(result.weights) == bits(plain.weights)
    asked = job.recipe.personalisation
    assert isinstance(asked, FineTuningConfig)
    for name, weights in own(world, job).items():
        trainer = SiteTrainer(
            name, world.site_store(name), job.recipe.local_training, job.preprocessor
        )
        start = {n: torch.from_numpy(w) for n, w in result.weights.items()}
        expected = trainer.fine_tune(start, asked.epochs, asked.lr)
        assert bits({n: w.numpy() for n, w in expected.items()}) == bits(weights)
    assert own(world, make_job("plain")) == {}
    assert all(report.personal_loss is None for report in plain.history.final.values())


def test_fine_tuning_that_diverges_costs_the_personal_model_alone(
    make_job: MakeJob, world: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    tuning = {"kind": "fine_tuning", "epochs": 3, "lr": 1e6}
    job = make_job(rounds=1, personalisation=tuning)
    final = run(job).history.final
    assert own(world, job) == {}
    assert [r.personal_loss for r in final.values()] == [None] * 3
    assert all(report.loss is not None for report in final.values())
    assert "hospital-a has no model of its own: training diverged" in caplog.text


@pytest.mark.parametrize("saved", [True, False], ids=["after", "before"])
@pytest.mark.parametrize(
    ("recipe", "phase", "round_"),
    [
        (FEDBN, "training", 1),
        (FEDBN, "training", 3),
        (FEDBN, "training", 4),
        (PRETRAINED, "pretraining", 2),
        (PRETRAINED, "pretraining", 3),
        (PRETRAINED, "training", 1),
        (TUNED, "training", 2),
    ],
    ids=["fedbn-1", "fedbn-3", "fedbn-4", "pre-2", "pre-3", "pre-then-1", "fine-tuning-2"],
)
def test_a_resumed_run_equals_an_uninterrupted_one(
    make_job: MakeJob,
    world: Settings,
    monkeypatch: pytest.MonkeyPatch,
    recipe: dict[str, Any],
    phase: str,
    round_: int,
    saved: bool,
) -> None:
    whole, cut = make_job("whole", **recipe), make_job("cut", **recipe)
    expected = all_bits(world, whole, run(whole))
    revive = dying(monkeypatch, phase, round_, saved=saved)
    with pytest.raises(KeyboardInterrupt):
        run(cut)
    revive()
    result = run(cut)
    assert result.history.resumed or (round_, saved) == (1, False)
    assert all_bits(world, cut, result) == expected


def test_a_server_that_lost_its_last_checkpoint_is_followed_back(
    make_job: MakeJob, world: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = make_job("whole", **FEDBN), make_job("cut", **FEDBN)
    expected = all_bits(world, whole, run(whole))
    revive = dying(monkeypatch, "training", 3, saved=True)
    with pytest.raises(KeyboardInterrupt):
        run(cut)
    revive()
    world.coordinator_store().put("runs/cut/checkpoints/training-000003", b"damaged")
    result = run(cut)
    assert result.history.resumed == (2,)
    assert all_bits(world, cut, result) == expected


def test_a_final_evaluation_that_is_asked_twice_finds_the_same_personal_model(
    make_job: MakeJob, world: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server dies with the sites' answers in hand, when their states are gone already."""
    whole, cut = make_job("whole", **FEDBN), make_job("cut", **FEDBN)
    first = run(whole)
    expected = all_bits(world, whole, first)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(server_app, "save_result", die)
        with pytest.raises(KeyboardInterrupt):
            run(cut)
    assert states(world, cut, "hospital-a") == []
    client_app._sites.clear()
    result = run(cut)
    assert all_bits(world, cut, result) == expected
    assert final_figures(result) == final_figures(first)


@pytest.mark.parametrize("recipe", [FEDBN, PRETRAINED], ids=["fedbn", "pretrained"])
def test_sites_that_are_restarted_before_every_message_go_on(
    make_job: MakeJob, world: Settings, recipe: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    whole, restarted = make_job("whole", **recipe), make_job("restarted", **recipe)
    expected = all_bits(world, whole, run(whole))
    request.getfixturevalue("forgetful")
    assert all_bits(world, restarted, run(restarted)) == expected


def failing(monkeypatch: pytest.MonkeyPatch, hospital: str, *rounds_: int) -> dict[int, bytes]:
    """Let a site fail in these rounds; return the norms with which it enters the others."""
    train_round, entered = SiteTrainer.train_round, dict[int, bytes]()

    def fail(self: SiteTrainer, weights: Any, round_: int) -> Update:
        if self.rows.hospital == hospital:
            if round_ in rounds_:
                raise OSError("its disk is full")
            entered[round_] = weights["encoder.1.weight"].numpy().tobytes()
        return train_round(self, weights, round_)

    monkeypatch.setattr(SiteTrainer, "train_round", fail)
    return entered


def test_a_site_goes_on_from_the_round_before_the_one_it_missed(
    make_job: MakeJob, world: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered = failing(monkeypatch, "hospital-b", 2)
    job = make_job(**FEDBN)
    dying(monkeypatch, "training", 3, saved=True)
    with pytest.raises(KeyboardInterrupt):
        run(job)
    assert states(world, job, "hospital-b") == ["training-000001", "training-000003"]
    left = state_before(world, job, "hospital-b", Phase.TRAINING, 3)
    assert list(entered) == [1, 3]
    assert entered[3] == left["encoder.1.weight"].tobytes() != entered[1]


def test_a_late_joiner_starts_from_the_models_first_values(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered = failing(monkeypatch, "hospital-c", 1, 2)
    job = make_job(**FEDBN)
    run(job)
    first = model_for(job.recipe.model, job.preprocessor, job.recipe.seed).state_dict()
    assert entered[3] == first["encoder.1.weight"].numpy().tobytes() != entered[4]


def test_a_site_keeps_no_more_states_than_the_server_can_ask_for(
    make_job: MakeJob, world: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(**FEDBN)
    dying(monkeypatch, "training", 4, saved=True)
    with pytest.raises(KeyboardInterrupt):
        run(job)
    assert states(world, job, "hospital-a") == [f"training-00000{n}" for n in (2, 3, 4)]
    assert own(world, job) == {}
    monkeypatch.undo()
    client_app._sites.clear()
    run(job)
    assert states(world, job, "hospital-a") == []
    assert set(own(world, job)) == set(job.sites)


def encoder_names(job: FederationJob) -> set[str]:
    first = model_for(job.recipe.model, job.preprocessor, job.recipe.seed).state_dict()
    return {name for name in first if name.startswith("encoder.")}


def test_pretraining_lowers_the_reconstruction_loss_and_shares_the_encoder_alone(
    make_job: MakeJob, world: Settings, messages: list[Message]
) -> None:
    recipe = PRETRAINED | {
        "personalisation": None,
        "pretraining": {"rounds": 6, "local_epochs": 3, "lr": 0.01},
        "rounds": 1,
    }
    job = make_job(**recipe)
    history = run(job).history
    losses = [report.validation_loss for report in history.pretraining]
    assert losses[0] is not None
    assert losses[-1] is not None
    assert losses[-1] < 0.8 * losses[0]
    assert all(r.validation_auroc is None for r in history.pretraining)

    pretraining = [m for m in messages if m.metadata.message_type == "train.pretrain"]
    assert len(pretraining) == 2 * 3 * 6
    for message in pretraining:
        assert set(message.content.array_records[rounds.ARRAYS]) == encoder_names(job)
    entries = [e for e in EgressLog(world.site_store("hospital-a")).entries() if e.run == job.run]
    assert [e.detail for e in entries] == [
        *(f"pre-training round {n}" for n in range(1, 7)),
        "round 1",
        "round 1",
    ]
    assert [e.kind for e in entries] == ["update"] * 7 + ["evaluation"]
    # The decoders were of use until here.
    assert states(world, job, "hospital-a") == []


def test_decoders_are_kept_and_differ(
    make_job: MakeJob, world: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(**PRETRAINED)
    dying(monkeypatch, "pretraining", 3, saved=True)
    with pytest.raises(KeyboardInterrupt):
        run(job)
    decoders = set()
    for name in job.sites:
        kept = state_before(world, job, name, Phase.PRETRAINING, 4)
        assert set(kept) == norms(job) | {n for n in kept if n.startswith("decoder.")}
        decoders.add(kept["decoder.0.weight"].tobytes())
    assert len(decoders) == 3


def test_training_goes_on_from_the_pretrained_encoder(
    make_job: MakeJob, messages: list[Message]
) -> None:
    job = make_job(**PRETRAINED | {"personalisation": None})
    run(job)
    sent: dict[str, list[ArrayRecord]] = {"train": [], "train.pretrain": []}
    for message in messages:
        kind = message.metadata.message_type
        if kind in sent and rounds.CONFIG in message.content:
            sent[kind].append(message.content.array_records[rounds.ARRAYS])
    first = model_for(job.recipe.model, job.preprocessor, job.recipe.seed).state_dict()
    started, trained = sent["train.pretrain"][0], sent["train"][0]
    assert set(trained) == set(first)
    for name in encoder_names(job):
        np.testing.assert_array_equal(started[name].numpy(), first[name].numpy())
        assert not np.array_equal(trained[name].numpy(), first[name].numpy())
    np.testing.assert_array_equal(trained["head.weight"].numpy(), first["head.weight"].numpy())


def test_a_site_whose_recipe_asks_for_no_pretraining_says_so(
    make_job: MakeJob, world: Settings
) -> None:
    job = make_job(**FEDBN)
    site = Participant(
        job.nodes()["hospital-a"],
        world.site_store("hospital-a"),
        run=job.run,
        recipe=job.recipe,
        preprocessor=job.preprocessor,
        checkpoints=2,
    )
    with pytest.raises(NoPretrainingError, match="recipe small asks for no pre-training"):
        site.pretrain({}, 1)

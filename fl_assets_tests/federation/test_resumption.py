"""A run that is interrupted, wherever, ends as it would have ended."""

from __future__ import annotations

import logging
import math
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from fl_assets.federation import server_app
from fl_assets.federation.checkpoints import Checkpoint, Checkpoints, OtherInputsError
from fl_assets.federation.job import FederationJob, FederationResult, load_result
from fl_assets.federation.rounds import Phase, RoundReport
from fl_assets.federation.runtimes.inprocess import InProcessRuntime
from fl_assets.settings import Settings
from fl_assets.tracking.runs import Tracking
from fl_assets_tests.federation.conftest import MakeJob
from fl_assets_tests.federation.final_figures import final_figures
from fl_assets_tests.file_uses import die_at_file_use

ROUNDS = 3
MLP = {"kind": "mlp", "hidden": [4]}
EMBEDDING = {"kind": "embedding", "encoder": [6, 3]}
STRATEGIES = [
    {"kind": "fedavg"},
    {"kind": "fedprox", "mu": 0.1},
    {"kind": "fedavgm"},
    {"kind": "fedadam"},
    {"kind": "fedyogi"},
    {"kind": "fedadagrad"},
    {"kind": "median"},
    {"kind": "trimmed_mean", "trim": 0.25},
    {"kind": "krum"},
]
PRETRAINING: dict[str, Any] = {"model": EMBEDDING, "pretraining": {"rounds": 2, "noise": 0.1}}
LOCAL = {"kind": "local_layers"}
RECIPES: dict[str, dict[str, Any]] = {
    **{str(s["kind"]): {"model": MLP, "strategy": s} for s in STRATEGIES},
    "a fraction of the sites": {"fraction": 0.5, "quorum": 2},
    "pretraining": PRETRAINING | {"strategy": {"kind": "fedadam"}},
    "local norms": {"model": EMBEDDING, "personalisation": LOCAL},
    "local norms, pretraining": PRETRAINING | {"personalisation": LOCAL},
    "local head": {"model": MLP, "personalisation": LOCAL | {"layers": "head"}},
    "fine tuning": {"personalisation": {"kind": "fine_tuning", "epochs": 1}},
}


class Killed(BaseException):
    """What nobody catches."""


@contextmanager
def killed_after(phase: Phase, round_: int, told: bool = True) -> Iterator[None]:
    """Kill the server after a round, when its observers were told or just before.

    Where they were not, the checkpoint is there all the same.
    """

    def observe(report: RoundReport, current: Phase) -> None:
        if (current, report.round) == (phase, round_):
            raise Killed

    observers, save = server_app._observers, Checkpoints.save

    def observers_and_death(*arguments: Any) -> Any:
        return [*observers(*arguments), observe]

    def save_and_die(self: Checkpoints, checkpoint: Checkpoint) -> None:
        save(self, checkpoint)
        if (checkpoint.phase, checkpoint.round) == (phase, round_):
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        if told:
            patch.setattr(server_app, "_observers", observers_and_death)
        else:
            patch.setattr(Checkpoints, "save", save_and_die)
        with pytest.raises(Killed):
            yield


@contextmanager
def killed_before_the_result() -> Iterator[None]:
    def die(*_: object) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server_app, "save_result", die)
        with pytest.raises(Killed):
            yield


def bits(result: FederationResult) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    return {n: (str(w.dtype), w.shape, w.tobytes()) for n, w in result.weights.items()}


def figures(result: FederationResult) -> list[tuple[Phase, int, float | None, float | None]]:
    return [
        (phase, r.round, r.train_loss, r.validation_loss) for phase, r in result.history.by_phase
    ]


def checkpoints_of(world: Settings, job: FederationJob) -> list[str]:
    folder = f"runs/{job.run}/checkpoints/"
    return [i.key.removeprefix(folder) for i in world.coordinator_store().list(folder)]


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=list(RECIPES))
def test_killed_after_every_round_it_ends_bit_for_bit_as_undisturbed(
    make_job: MakeJob, world: Settings, recipe: dict[str, Any]
) -> None:
    asked = {"rounds": ROUNDS, "seed": 5} | recipe
    whole = InProcessRuntime().run(make_job("whole", **asked))
    job = make_job("broken", **asked)
    before = [("pretraining", r.round) for r in whole.history.pretraining]
    during = [("training", r.round) for r in whole.history.rounds]
    for place, (phase, round_) in enumerate([*before, *during]):
        with killed_after(phase, round_, told=place % 2 == 0):  # type: ignore[arg-type]
            InProcessRuntime().run(job)
        assert checkpoints_of(world, job)[-1] == f"{phase}-{round_:06d}"
    with killed_before_the_result():
        InProcessRuntime().run(job)

    result = InProcessRuntime().run(job)

    assert bits(result) == bits(whole)
    assert figures(result) == figures(whole)
    assert final_figures(result) == final_figures(whole)
    assert result.history.participants == whole.history.participants
    # The attempt that was killed before the result ended no round, so nobody knows of it.
    assert result.history.resumed == (*(0 for _ in before), *range(1, ROUNDS + 1))
    assert checkpoints_of(world, job) == []


@pytest.mark.parametrize("phase", ["pretraining", "training"])
def test_killed_within_a_round_that_some_sites_have_done(make_job: MakeJob, phase: Phase) -> None:
    """Their own layers went on already; asked again, they begin where they began."""
    recipe = PRETRAINING | {"personalisation": LOCAL, "rounds": 2}
    whole = InProcessRuntime().run(make_job("whole", **recipe))
    job = make_job("broken", **recipe)
    save = Checkpoints.save

    def die_instead(self: Checkpoints, checkpoint: Checkpoint) -> None:
        if (checkpoint.phase, checkpoint.round) == (phase, 2):
            raise Killed
        save(self, checkpoint)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "save", die_instead)
        with pytest.raises(Killed):
            InProcessRuntime().run(job)

    assert bits(InProcessRuntime().run(job)) == bits(whole)


def test_only_what_is_left_is_done(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_job("broken", rounds=ROUNDS)
    with killed_after("training", 2):
        InProcessRuntime().run(job)
    saved = []
    save = Checkpoints.save

    def note(self: Checkpoints, checkpoint: Checkpoint) -> None:
        saved.append(checkpoint.round)
        save(self, checkpoint)

    monkeypatch.setattr(Checkpoints, "save", note)
    with killed_before_the_result():
        InProcessRuntime().run(job)
    assert saved == [3]
    InProcessRuntime().run(job)
    assert saved == [3]


def test_a_damaged_checkpoint_costs_a_round_and_no_more(
    make_job: MakeJob, world: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = {"rounds": ROUNDS, "strategy": {"kind": "fedadam"}}
    whole = InProcessRuntime().run(make_job("whole", **recipe))
    job = make_job("broken", **recipe)
    with killed_after("training", 2):
        InProcessRuntime().run(job)
    newest = f"runs/{job.run}/checkpoints/training-000002"
    world.coordinator_store().put(newest, world.coordinator_store().get(newest)[:-1])

    with caplog.at_level(logging.WARNING):
        result = InProcessRuntime().run(job)

    assert f"{newest} is damaged" in caplog.text
    assert result.history.resumed == (1,)
    assert bits(result) == bits(whole)


def test_a_run_of_other_inputs_does_not_go_on_from_there(
    make_job: MakeJob, world: Settings
) -> None:
    with killed_after("training", 1):
        InProcessRuntime().run(make_job("r"))
    other = make_job("r", seed=7)
    with pytest.raises(OtherInputsError, match="give the run a name of its own, or do not resume"):
        InProcessRuntime().run(other)
    assert checkpoints_of(world, other) == ["training-000001"]

    anew = InProcessRuntime().run(other.model_copy(update={"resume": False}))

    assert anew.history.resumed == ()
    assert bits(anew) == bits(InProcessRuntime().run(make_job("whole", seed=7)))


def test_a_run_may_begin_anew(make_job: MakeJob, world: Settings) -> None:
    job = make_job("r", rounds=ROUNDS).model_copy(update={"resume": False})
    with killed_after("training", 2):
        InProcessRuntime().run(job)
    with killed_after("training", 1):
        InProcessRuntime().run(job)
    # None of the first attempt, which would look newer.
    assert checkpoints_of(world, job) == ["training-000001"]


def test_people_and_mlflow_are_told_of_the_whole_run(
    make_job: MakeJob, tracking: Tracking, capsys: pytest.CaptureFixture[str]
) -> None:
    """As at the coordinator's, the second attempt has an MLflow run of its own."""
    with tracking.run("first", {}) as first, killed_after("training", 2):
        InProcessRuntime().run(logged(make_job, tracking, first))
    capsys.readouterr()
    with tracking.run("second", {}) as second:
        InProcessRuntime().run(logged(make_job, tracking, second))

    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "resumed after round 2"
    assert [line[:12] for line in lines[1:]] == ["round 3 of 3"]
    for name in ("train_loss", "hospital-a/participated"):
        steps = [m.step for m in tracking.client.get_metric_history(second, name)]
        assert sorted(steps) == [1, 2, 3]


def logged(make_job: MakeJob, tracking: Tracking, mlflow_run: str) -> FederationJob:
    to = {"tracking_uri": tracking.uri, "mlflow_run": mlflow_run, "progress": True}
    return make_job("r", rounds=ROUNDS).model_copy(update=to)


def test_a_result_is_complete_even_if_its_checkpoints_could_not_be_deleted(
    make_job: MakeJob, world: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job("r")

    def die(_: Checkpoints) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "clear", die)
        with pytest.raises(Killed):
            InProcessRuntime().run(job)
    result = load_result(world.coordinator_store(), job.run)

    again = InProcessRuntime().run(job)

    assert bits(again) == bits(result)
    assert checkpoints_of(world, job) == []


def run_in_a_child(job: FederationJob, kill_at: float = math.inf) -> int:
    """Run a job in a process that kills itself at its n-th use of a file.

    Returns:
        How often files were used in all; 0 where it was killed.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            used = die_at_file_use(kill_at)
            InProcessRuntime().run(job)
            os.write(writing, str(used()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return int(answer or 0)


@pytest.mark.faults
def test_killed_at_any_use_of_a_file_it_ends_bit_for_bit_as_undisturbed(
    make_job: MakeJob, world: Settings
) -> None:
    """Server and sites are killed together, at ten places of which most are within a write."""
    asked: dict[str, Any] = {"rounds": 3, "strategy": {"kind": "fedadam"}, "personalisation": LOCAL}
    whole = InProcessRuntime().run(make_job("whole", **PRETRAINING, **asked))
    uses = run_in_a_child(make_job("counted", **PRETRAINING, **asked))
    assert uses > 200

    for place in random.Random(11).sample(range(1, uses), 10):
        job = make_job(f"killed-at-{place}", **PRETRAINING, **asked)
        assert run_in_a_child(job, place) == 0

        result = InProcessRuntime().run(job)

        assert bits(result) == bits(whole), place
        assert figures(result) == figures(whole), place
        assert final_figures(result) == final_figures(whole), place
        assert checkpoints_of(world, job) == []

"""A hospital whose real client app did its work, and which sends an old update all the same."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import pytest
from flwr.app import Context, Message, RecordDict

from fl_assets.federation import client_app, rounds
from fl_assets.federation.checkpoints import Checkpoint, Checkpoints
from fl_assets.federation.job import FederationJob, FederationResult
from fl_assets.federation.runtimes.inprocess import InProcessGrid, InProcessRuntime
from fl_assets.learning.weights import weights_to_bytes
from fl_assets_tests.federation.absence import without_dropouts
from fl_assets_tests.federation.conftest import MakeJob
from fl_assets_tests.federation.test_resumption import Killed

pytestmark = pytest.mark.faults

THIEF = "hospital-b"
ROUNDS = 4
MLP: dict[str, Any] = {
    "model": {"kind": "mlp", "hidden": [4]},
    "strategy": {"kind": "fedadam"},
    "rounds": ROUNDS,
    "quorum": 2,
}


class Asked(NamedTuple):
    """What an update answers."""

    run: str
    round: int


class Replay:
    """The real client app, with one hospital that keeps its updates and sends one again.

    Args:
        replaced: the update that it does not send.
        by: the one that it sends in its place, once it has it.
    """

    def __init__(self, replaced: Asked, by: Asked) -> None:
        self._replaced = replaced
        self._by = by
        self._real = client_app.app
        self._kept: dict[Asked, RecordDict] = {}

    def __call__(self, message: Message, context: Context) -> Message:
        reply = self._real(message, context)
        training = message.metadata.message_type == "train"
        if not training or context.node_config["hospital"] != THIEF:
            return reply
        config = message.content.config_records[rounds.CONFIG]
        asked = Asked(str(config[rounds.RUN]), int(str(config[rounds.ROUND])))
        old = self._kept.get(self._by) if asked == self._replaced else None
        self._kept.setdefault(asked, reply.content)
        return reply if old is None else Message(old, reply_to=message)


def replaying(patch: pytest.MonkeyPatch, replaced: Asked, by: Asked) -> None:
    patch.setattr(client_app, "app", Replay(replaced, by))


def run(job: FederationJob) -> FederationResult:
    return InProcessRuntime().run(job)


def bits(result: FederationResult) -> bytes:
    return weights_to_bytes(result.weights)


def check(job: FederationJob, result: FederationResult, round_: int, cause: str) -> None:
    """Check that an old update in a round cost its hospital that round, and nobody else any."""
    assert len(result.history.rounds) == ROUNDS
    for report in result.history.rounds:
        caught = {THIEF} if report.round == round_ else set()
        assert set(report.dropouts) == set(report.rejected) == caught
        assert set(report.sites) == set(job.sites) - caught
    assert cause in result.history.rounds[round_ - 1].dropouts[THIEF]
    assert THIEF in result.history.final
    assert bits(result) == bits(without_dropouts(job, result.history))
    # Else it would not show whether the update counted.
    assert bits(result) != bits(run(job.model_copy(update={"run": "undisturbed"})))


def test_an_update_of_an_earlier_round_is_refused(make_job: MakeJob) -> None:
    job = make_job(**MLP)
    with pytest.MonkeyPatch.context() as patch:
        replaying(patch, Asked("run", 3), by=Asked("run", 2))
        result = run(job)
    check(job, result, 3, "its reply is to round 2, this is 3: replayed, or too late to count")


def test_an_update_of_an_earlier_run_is_refused(make_job: MakeJob) -> None:
    job = make_job("second", **MLP)
    with pytest.MonkeyPatch.context() as patch:
        replaying(patch, Asked("second", 2), by=Asked("first", 2))
        run(make_job("first", **MLP))
        result = run(job)
    check(job, result, 2, "its reply is to run 'first', this is 'second': replayed from an earlier")


def test_an_update_of_the_same_round_before_the_server_was_restarted_is_refused(
    make_job: MakeJob,
) -> None:
    """Run and round fit; the nonce alone tells that it answers another message."""
    job = make_job(**MLP)
    save = Checkpoints.save

    def die_instead(self: Checkpoints, checkpoint: Checkpoint) -> None:
        if checkpoint.round == 2:
            raise Killed
        save(self, checkpoint)

    with pytest.MonkeyPatch.context() as patch:
        replaying(patch, Asked("run", 2), by=Asked("run", 2))
        with pytest.MonkeyPatch.context() as death:
            death.setattr(Checkpoints, "save", die_instead)
            with pytest.raises(Killed):
                run(job)
        result = run(job)
    assert result.history.resumed == (1,)
    check(job, result, 2, "its reply is to another message of round 2: replayed, or from before")


def test_an_update_that_is_sent_twice_counts_once(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(**MLP)
    undisturbed = run(job.model_copy(update={"run": "undisturbed"}))
    send_and_receive = InProcessGrid.send_and_receive

    def and_again(
        self: InProcessGrid, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        replies = list(send_and_receive(self, messages, timeout=timeout))
        names = {node.node_id: node.name for node in self.get_nodes()}
        return replies + [r for r in replies if names[r.metadata.src_node_id] == THIEF]

    monkeypatch.setattr(InProcessGrid, "send_and_receive", and_again)
    result = run(job)

    for report in result.history.rounds:
        assert report.rejected == (THIEF,)
        # Its first reply counts: what it repeats costs it nothing.
        assert report.dropouts == {}
        assert set(report.sites) == set(job.sites)
    assert bits(result) == bits(undisturbed)

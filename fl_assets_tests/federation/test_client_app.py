import hashlib
import math

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict

from fl_assets.federation import rounds
from fl_assets.federation.client_app import app
from fl_assets.federation.job import FederationJob
from fl_assets.federation.runtimes.inprocess import InProcessGrid
from fl_assets.federation.statement import PrivacyStatement
from fl_assets.learning.models import model_for
from fl_assets.settings import Settings
from fl_assets.site.egress import EgressLog
from fl_assets.site.partitions import MANIFEST, load_manifest, load_part, write_partitions
from fl_assets_tests.federation.conftest import MakeJob


@pytest.fixture
def job(make_job: MakeJob) -> FederationJob:
    return make_job("client-test")


class Server:
    """Asks the real client app, one message at a time."""

    def __init__(self, job: FederationJob, run_id: int = 1) -> None:
        self._grid = InProcessGrid(app, job.nodes(), job.run_config(), run_id)
        self._nodes = {node.name: node.node_id for node in self._grid.get_nodes()}
        self._run = job.run
        model = model_for(job.recipe.model, job.preprocessor, job.recipe.seed)
        self.arrays = ArrayRecord(model.state_dict())

    def ask(self, hospital: str, kind: str = "train", round_: int = 1) -> Message:
        marks = {rounds.RUN: self._run, rounds.ROUND: round_, rounds.NONCE: f"nonce-{round_}"}
        content = RecordDict(
            {rounds.ARRAYS: self.arrays, rounds.CONFIG: ConfigRecord({**marks, "proximal-mu": 0.1})}
        )
        message = Message(content, dst_node_id=self._nodes[hospital], message_type=kind)
        (reply,) = self._grid.send_and_receive([message], timeout=60)
        return reply


@pytest.fixture
def server(job: FederationJob) -> Server:
    return Server(job)


def version_in(reply: Message) -> str:
    return str(reply.content.config_records[rounds.ABOUT][rounds.PARTITIONS])


def test_an_update_holds_weights_and_the_agreed_figures_and_nothing_else(
    server: Server, world: Settings
) -> None:
    reply = server.ask("hospital-a")

    manifest = load_manifest(world.site_store("hospital-a"))
    content = reply.content
    assert set(content) == {rounds.ARRAYS, rounds.METRICS, rounds.ABOUT}
    metrics = content.metric_records[rounds.METRICS]
    assert set(metrics) == rounds.UPDATE_METRICS
    assert metrics[rounds.EXAMPLES] == manifest.files["train"].rows
    assert metrics[rounds.VALIDATION_EXAMPLES] == manifest.files["validation"].rows
    assert dict(content.config_records[rounds.ABOUT]) == {
        rounds.PARTITIONS: manifest.version,
        rounds.RUN: "client-test",
        rounds.ROUND: 1,
        rounds.NONCE: "nonce-1",
    }
    trained = content.array_records[rounds.ARRAYS].to_torch_state_dict()
    received = server.arrays.to_torch_state_dict()
    assert {n: t.shape for n, t in trained.items()} == {n: t.shape for n, t in received.items()}
    assert not torch.equal(trained["0.weight"], received["0.weight"])


def test_an_evaluation_holds_figures_alone(server: Server) -> None:
    reply = server.ask("hospital-a", "evaluate", round_=9)

    assert set(reply.content) == {rounds.METRICS, rounds.ABOUT, rounds.PRIVACY}
    spent = reply.content.config_records[rounds.PRIVACY][rounds.PRIVACY]
    assert PrivacyStatement.model_validate_json(str(spent)).unprotected_runs == 1
    metrics = reply.content.metric_records[rounds.METRICS]
    assert set(metrics) == rounds.EVALUATION_METRICS
    # This recipe leaves no hospital a model of its own.
    assert math.isnan(metrics[rounds.PERSONAL_VALIDATION_LOSS])
    assert math.isnan(metrics[rounds.PERSONAL_VALIDATION_AUROC])
    about = reply.content.config_records[rounds.ABOUT]
    assert [about[n] for n in (rounds.RUN, rounds.ROUND, rounds.NONCE)] == [
        "client-test",
        9,
        "nonce-9",
    ]


def test_what_leaves_is_in_the_egress_log_with_its_hash(server: Server, world: Settings) -> None:
    before = len(EgressLog(world.site_store("hospital-a")).entries())
    update = server.ask("hospital-a", round_=7)
    server.ask("hospital-a", "evaluate", round_=8)

    entries = EgressLog(world.site_store("hospital-a")).entries()[before:]
    assert [(e.kind, e.run, e.detail) for e in entries] == [
        ("update", "client-test", "round 7"),
        ("evaluation", "client-test", "round 8"),
    ]
    metrics = update.content.metric_records[rounds.METRICS]
    left = repr(sorted(metrics.items())).encode()
    left += b"".join(a.data for a in update.content.array_records[rounds.ARRAYS].values())
    assert entries[0].sha256 == hashlib.sha256(left).hexdigest()
    assert entries[0].size == len(left)


def test_nothing_leaves_where_the_egress_log_cannot_be_written(
    server: Server, world: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(EgressLog, "_append", full)
    reply = server.ask("hospital-a")
    assert reply.has_error()
    assert "hospital-a failed with OSError" in reply.error.reason


def test_a_run_keeps_the_rows_it_began_with_and_the_next_one_sees_new_ones(
    server: Server, job: FederationJob, world: Settings
) -> None:
    store = world.site_store("hospital-a")
    old = load_manifest(store)
    first = server.ask("hospital-a")
    frame = load_part(store, old, "train")
    parts = ["train"] * 50 + ["validation"] * (len(frame) - 50)
    new = write_partitions(store, frame, np.array(parts), world.cohort, "test")

    second = server.ask("hospital-a", round_=2)
    other = Server(job, run_id=2).ask("hospital-a")

    assert version_in(first) == version_in(second) == old.version
    assert version_in(other) == new.version != old.version
    assert other.content.metric_records[rounds.METRICS][rounds.EXAMPLES] == 50


def test_a_round_gives_the_same_update_whatever_came_before(
    server: Server, job: FederationJob
) -> None:
    server.ask("hospital-b", round_=1)
    after_one = server.ask("hospital-b", round_=2)
    alone = Server(job, run_id=2).ask("hospital-b", round_=2)
    other_round = server.ask("hospital-b", round_=3)

    def weights(reply: Message) -> bytes:
        return b"".join(a.data for a in reply.content.array_records[rounds.ARRAYS].values())

    assert weights(after_one) == weights(alone)
    assert weights(after_one) != weights(other_round)


def test_a_patients_value_in_an_error_stays_at_the_site(
    server: Server, world: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    store = world.site_store("hospital-a")
    manifest = load_manifest(store)
    frame = load_part(store, manifest, "train").astype({"stroke": object})
    frame["stroke"] = "canary-4711"
    file = manifest.files["train"]
    store.put(file.key, data := frame.to_parquet())
    other = file.model_copy(update={"sha256": hashlib.sha256(data).hexdigest()})
    files = manifest.files | {"train": other}
    store.put(MANIFEST, manifest.model_copy(update={"files": files}).model_dump_json().encode())

    reply = server.ask("hospital-a")

    assert reply.has_error()
    assert "hospital-a failed with ValueError: see the site's own log" in reply.error.reason
    assert "canary" not in reply.error.reason
    assert "unforeseen ValueError" in caplog.text
    # Where it happened, for the site's people, and not with what.
    assert 'fl_assets/federation/client_app.py", line' in caplog.text
    assert "canary" not in caplog.text


def test_our_own_errors_arrive_as_they_are(server: Server, world: Settings) -> None:
    store = world.site_store("hospital-a")
    frame = load_part(store, load_manifest(store), "train")
    write_partitions(store, frame, np.full(len(frame), "test"), world.cohort, "test")

    reply = server.ask("hospital-a")

    assert reply.error.reason.startswith("NoTrainingRowsError: hospital-a has no training row")
    assert "leave it out of the run" in reply.error.reason

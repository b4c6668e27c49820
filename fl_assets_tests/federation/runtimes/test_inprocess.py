import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from sklearn.linear_model import LogisticRegression

from fl_assets.federation.job import FederationJob, FederationResult
from fl_assets.federation.recipe import load_recipe
from fl_assets.federation.runtimes.inprocess import InProcessGrid, InProcessRuntime
from fl_assets.federation.site_config import SiteConfig
from fl_assets.federation.strategies.consortium import QuorumNotReachedError
from fl_assets.learning.features import Preprocessor
from fl_assets.learning.metrics import auroc
from fl_assets.learning.models import model_for
from fl_assets.learning.training import predict
from fl_assets.learning.weights import weights_to_bytes
from fl_assets.settings import Settings
from fl_assets.site.partitions import PARTS, load_manifest, load_part, write_partitions
from fl_assets.site.pooling import pooled
from fl_assets_tests.federation.conftest import MakeJob
from fl_assets_tests.world import build_world

SHIPPED = Path(__file__).resolve().parents[3] / "recipes"
MLP = {"model": {"kind": "mlp", "hidden": [4]}, "optimizer": {"kind": "adam", "lr": 0.01}}


def bits(result: FederationResult) -> bytes:
    return weights_to_bytes(result.weights)


def run(job: FederationJob) -> FederationResult:
    return InProcessRuntime().run(job)


def test_the_same_job_gives_the_same_bits_and_another_seed_others(make_job: MakeJob) -> None:
    one = run(make_job("one", **MLP))
    torch.manual_seed(99)
    assert bits(run(make_job("two", **MLP))) == bits(one)
    assert bits(run(make_job("three", **MLP, seed=43))) != bits(one)


def test_the_order_of_the_sites_does_not_change_a_bit(make_job: MakeJob) -> None:
    job = make_job("one", **MLP)
    turned = job.model_copy(update={"run": "two", "sites": dict(reversed(job.sites.items()))})
    assert bits(run(turned)) == bits(run(job))


def test_another_process_computes_the_same_bits(make_job: MakeJob) -> None:
    job = make_job("here", **MLP)
    here = run(job)
    there = job.model_copy(update={"run": "there"})
    code = (
        "import sys; from fl_assets.federation.job import FederationJob;"
        "from fl_assets.learning.weights import weights_to_bytes;"
        "from fl_assets.federation.runtimes.inprocess import InProcessRuntime;"
        "job = FederationJob.model_validate_json(sys.stdin.read());"
        "sys.stdout.buffer.write(weights_to_bytes(InProcessRuntime().run(job).weights))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=there.model_dump_json().encode(),
        capture_output=True,
        check=True,
        timeout=120,
    )
    assert done.stdout == bits(here)


def test_two_runs_at_once_take_turns(make_job: MakeJob) -> None:
    jobs = [make_job(f"run-{seed}", **MLP, seed=seed) for seed in (1, 2)]
    alone = [bits(run(job)) for job in jobs]
    with ThreadPoolExecutor(2) as pool:
        together = [bits(result) for result in pool.map(run, jobs)]
    assert together == alone


def test_a_failed_run_leaves_the_process_ready_for_the_next(
    make_job: MakeJob, world: Settings
) -> None:
    good = make_job("good")
    before = bits(run(good))
    with pytest.raises(QuorumNotReachedError):
        run(make_job("bad", optimizer={"lr": 1e6}))
    assert bits(run(good.model_copy(update={"run": "again"}))) == before


def test_nothing_is_left_running(make_job: MakeJob) -> None:
    before = set(threading.enumerate())
    run(make_job("good"))
    with pytest.raises(QuorumNotReachedError):
        run(make_job("bad", optimizer={"lr": 1e6}))
    started = set(threading.enumerate()) - before
    # A thread has yet to end when its last reply has arrived.
    for thread in started:
        thread.join(10)
    assert not any(thread.is_alive() for thread in started)


def repartition(world: Settings, hospital: str, parts: list[str]) -> None:
    """Give the hospital's rows, in their order, to the named parts again and again."""
    store = world.site_store(hospital)
    manifest = load_manifest(store)
    frame = load_part(store, manifest, "train")
    dealt = np.array([parts[row % len(parts)] for row in range(len(frame))])
    write_partitions(store, frame, dealt, world.cohort, manifest.records)


def test_a_hospital_with_one_class_gives_no_auroc_and_the_others_theirs(
    make_job: MakeJob, world: Settings
) -> None:
    # Hospital-b of the world has no positive validation row.
    history = run(make_job()).history
    for report in history.rounds:
        assert report.sites["hospital-b"].validation_auroc is None
        assert report.sites["hospital-b"].validation_loss is not None
        assert report.sites["hospital-a"].validation_auroc is not None
        assert report.validation_auroc is not None
    assert history.final["hospital-b"].auroc is None
    assert history.final["hospital-b"].threshold is not None


def test_a_hospital_without_validation_rows_gives_no_figure_at_all(
    make_job: MakeJob, world: Settings
) -> None:
    repartition(world, "hospital-a", ["train", "test"])
    history = run(make_job()).history
    for report in history.rounds:
        site = report.sites["hospital-a"]
        assert (site.validation_examples, site.validation_loss, site.validation_auroc) == (
            0,
            None,
            None,
        )
        assert site.train_loss > 0
    final = history.final["hospital-a"]
    assert (final.examples, final.loss, final.auroc, final.threshold) == (0, None, None, None)
    assert history.final["hospital-c"].auroc is not None


def test_a_consortium_of_one_class_still_trains(make_job: MakeJob, world: Settings) -> None:
    for name in world.consortium.hospital_names:
        store = world.site_store(name)
        manifest = load_manifest(store)
        frame = load_part(store, manifest, "train")
        healthy = frame[frame["stroke"] == 0]
        parts = np.array([PARTS[row % 2] for row in range(len(healthy))])
        write_partitions(store, healthy, parts, world.cohort, manifest.records)

    history = run(make_job()).history

    assert all(report.validation_auroc is None for report in history.rounds)
    assert all(report.validation_loss is not None for report in history.rounds)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return build_world(tmp_path_factory.mktemp("large"), rows=5110, seed=0)


def test_federated_averaging_comes_within_a_hundredth_of_the_centralised_fit(
    large: Settings,
) -> None:
    preprocessor = Preprocessor.public(large.cohort)
    job = FederationJob(
        run="fedavg-lr",
        recipe=load_recipe(SHIPPED / "fedavg-lr.yaml"),
        preprocessor=preprocessor,
        sites={n: large.site_uri(n) for n in large.consortium.hospital_names},
        output=large.coordinator_uri,
        budgets=large.consortium.budgets,
    )
    assert job.recipe.rounds == 50
    model = model_for(job.recipe.model, preprocessor, 0)
    weights = run(job).weights
    model.load_state_dict({name: torch.from_numpy(w) for name, w in weights.items()})

    stores = {name: large.site_store(name) for name in large.consortium.hospital_names}
    train, test = (pooled(large.consortium, stores, part) for part in ("train", "test"))
    X = preprocessor.transform(test)
    central = LogisticRegression(C=np.inf, max_iter=2000).fit(
        preprocessor.transform(train), train["stroke"]
    )
    y = test["stroke"].to_numpy()
    federated = auroc(y, predict(model, torch.from_numpy(X)))
    centralised = auroc(y, central.predict_proba(X)[:, 1])
    assert federated is not None
    assert centralised is not None
    assert abs(federated - centralised) < 0.01
    assert centralised > 0.75


class Clients:
    """A grid over a client app whose train function a test gives."""

    def __init__(self, app: ClientApp) -> None:
        self.grid = InProcessGrid(
            app,
            {n: SiteConfig(hospital=n, store=f"file:///{n}") for n in ("a", "b")},
            {"run": "r"},
            1,
        )

    def ask(self, *nodes: int, content: RecordDict | None = None) -> list[Message]:
        shared = RecordDict() if content is None else content
        messages = [Message(shared, dst_node_id=node, message_type="train") for node in nodes]
        return list(self.grid.send_and_receive(messages, timeout=60))


@pytest.fixture
def app() -> ClientApp:
    return ClientApp()


def test_a_client_cannot_change_what_another_one_receives(app: ClientApp) -> None:
    seen = []

    @app.train()
    def vandal(message: Message, context: Context) -> Message:
        seen.append(message.content.array_records["arrays"]["w"].numpy().tolist())
        message.content["arrays"] = ArrayRecord({"w": Array(np.zeros(2, dtype=np.float32))})
        message.content["mine"] = MetricRecord({"x": 1})
        context.run_config["run"] = "mine"
        return Message(message.content, reply_to=message)

    content = RecordDict({"arrays": ArrayRecord({"w": Array(np.array([1.0, 2.0]))})})
    clients = Clients(app)
    clients.ask(1, 2, content=content)
    clients.ask(1, 2, content=content)

    assert seen == [[1.0, 2.0]] * 4
    assert set(content) == {"arrays"}


def test_a_clients_state_survives_rounds_and_is_its_own(app: ClientApp) -> None:
    @app.train()
    def count(message: Message, context: Context) -> Message:
        seen = context.state.metric_records.get("seen", MetricRecord({"n": 0}))
        context.state["seen"] = MetricRecord({"n": int(seen["n"]) + 1})
        if context.node_config["hospital"] == "b" and seen["n"] == 1:
            raise ValueError("after the state was changed")
        return Message(RecordDict(context.state), reply_to=message)

    clients = Clients(app)
    replies = [clients.ask(1, 2), clients.ask(2, 1), clients.ask(1), clients.ask(2)]

    def counted(reply: Message) -> int | None:
        if reply.has_error():
            return None
        return int(reply.content.metric_records["seen"]["n"])

    assert [[counted(r) for r in wave] for wave in replies] == [[1, 1], [None, 2], [3], [3]]


def test_replies_can_be_fetched_later_each_once(app: ClientApp) -> None:
    @app.train()
    def echo(message: Message, context: Context) -> Message:
        return Message(message.content, reply_to=message)

    grid = Clients(app).grid
    release = threading.Event()

    @app.query()
    def waits(message: Message, context: Context) -> Message:
        assert release.wait(60)
        return Message(RecordDict(), reply_to=message)

    (asked,) = grid.push_messages([grid.create_message(RecordDict(), "query", 1, "g")])
    assert list(grid.pull_messages([asked])) == []
    release.set()
    found: list[Message] = []
    while not found:
        found += grid.pull_messages([asked])
    assert found[0].metadata.reply_to_message_id == asked
    assert list(grid.pull_messages([asked, "unknown"])) == []

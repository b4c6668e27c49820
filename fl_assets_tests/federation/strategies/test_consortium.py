import itertools
import threading
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg, FedProx

from fl_assets.errors import FlAssetsError
from fl_assets.federation import rounds
from fl_assets.federation.job import FederationError, FinalReport
from fl_assets.federation.recipe import Recipe
from fl_assets.federation.rounds import RoundReport
from fl_assets.federation.runtimes.inprocess import InProcessGrid
from fl_assets.federation.strategies.configs import FedProxConfig
from fl_assets.federation.strategies.consortium import (
    NO_REPLY,
    ConsortiumStrategy,
    QuorumNotReachedError,
    TooFewSitesError,
    build_strategy,
)
from fl_assets.learning.configs import LogisticRegressionConfig
from fl_assets_tests.federation.little import (
    HOSPITALS,
    Client,
    arrays_of,
    echo,
    federate,
    reply,
    round_of,
    values_of,
)


def recipe(**changes: Any) -> Recipe:
    return Recipe(**{"name": "r", "model": LogisticRegressionConfig()} | changes)


def sends(*values: float, **figures: Any) -> Client:
    return lambda message, context: reply(arrays_of(*values), **figures)


class ClosedWardError(FlAssetsError):
    """A failure of ours, whose message is written for everyone to read."""


def raises(error: Exception) -> Client:
    def client(message: Message, context: Context) -> RecordDict:
        raise error

    return client


def test_the_strategy_is_the_recipes() -> None:
    assert type(build_strategy(recipe(), 3)) is FedAvg
    proximal = build_strategy(recipe(strategy=FedProxConfig(mu=0.3)), 3)
    assert isinstance(proximal, FedProx)
    assert proximal.proximal_mu == 0.3


@pytest.mark.parametrize(("sites", "quorum"), [(0, None), (2, 3)])
def test_a_quorum_beyond_the_sites_fails_where_flower_would_wait(
    sites: int, quorum: int | None
) -> None:
    with pytest.raises(TooFewSitesError, match=f"has {sites} sites and needs {quorum or 1}"):
        build_strategy(recipe(quorum=quorum), sites)


def test_the_global_model_is_the_mean_weighted_by_training_rows() -> None:
    result, strategy = federate(
        {
            "hospital-a": sends(1.0, -2.0, examples=1),
            "hospital-b": sends(4.0, 0.5, examples=2),
            "hospital-c": sends(0.25, 8.0, examples=5),
        }
    )

    expected = np.average([[1.0, -2.0], [4.0, 0.5], [0.25, 8.0]], axis=0, weights=[1, 2, 5])
    np.testing.assert_allclose(values_of(result.arrays), expected, rtol=1e-6)
    assert {name: s.examples for name, s in strategy.reports[0].sites.items()} == {
        "hospital-a": 1,
        "hospital-b": 2,
        "hospital-c": 5,
    }


def test_the_order_of_arrival_does_not_change_a_bit() -> None:
    # Sums of these in another order differ in float32.
    updates = {"hospital-a": 1e8, "hospital-b": 1.0, "hospital-c": -1e8}
    grid = InProcessGrid(ClientApp(), dict.fromkeys(HOSPITALS, "file:///nowhere"), {}, run_id=1)
    hospitals = {node.node_id: node.name for node in grid.get_nodes()}
    found = set()
    for order in itertools.permutations(range(3)):
        strategy = ConsortiumStrategy(FedAvg(), recipe(), hospitals)
        asked = list(strategy.configure_train(1, arrays_of(0.0), ConfigRecord(), grid))
        replies = [
            Message(reply(arrays_of(updates[hospitals[m.metadata.dst_node_id]])), reply_to=m)
            for m in (asked[place] for place in order)
        ]
        arrays, _ = strategy.aggregate_train(1, replies)
        assert arrays is not None
        found.add(tuple(values_of(arrays)))
    assert len(found) == 1


def test_hospitals_are_asked_in_the_order_of_their_names() -> None:
    asked = []

    def note(message: Message, context: Context) -> RecordDict:
        asked.append(str(context.node_config["hospital"]))
        return echo(message, context)

    federate(dict.fromkeys(HOSPITALS, note), rounds=5)
    assert asked == list(HOSPITALS) * 5


def test_a_report_per_round_and_the_validation_of_the_last_model() -> None:
    seen: list[RoundReport] = []
    _, strategy = federate(
        {"hospital-b": sends(1.0, 1.0, validation_auroc=float("nan"))}, [seen.append], rounds=3
    )

    assert [(r.round, r.rounds) for r in seen] == [(1, 3), (2, 3), (3, 3)]
    assert strategy.reports == seen
    assert seen[0].sites["hospital-a"].validation_auroc == 0.75
    assert seen[0].sites["hospital-b"].validation_auroc is None
    assert seen[0].sites["hospital-a"].partitions == "p1"
    size = len(arrays_of(0.0, 0.0)["w"].data)
    assert (seen[0].sent, seen[0].received) == (3 * size, 3 * size)
    assert 0 < seen[0].seconds < 10
    final = FinalReport(examples=10, loss=0.5, auroc=0.75, threshold=0.1)
    assert strategy.final == dict.fromkeys(HOSPITALS, final)


def test_fedprox_averages_as_fedavg() -> None:
    clients = {name: sends(float(i), 0.0) for i, name in enumerate(HOSPITALS)}
    proximal, _ = federate(clients, strategy={"kind": "fedprox", "mu": 0.1})
    plain, _ = federate(clients)
    assert values_of(proximal.arrays) == values_of(plain.arrays)


def test_a_site_that_fails_is_a_dropout_and_may_rejoin() -> None:
    def first_time_out(message: Message, context: Context) -> RecordDict:
        if round_of(message) == 1:
            raise ClosedWardError("the ward is closed today: ask again tomorrow")
        return reply(arrays_of(9.0, 9.0))

    result, strategy = federate({"hospital-b": first_time_out}, quorum=2, rounds=2)

    first, second = strategy.reports
    assert set(first.sites) == {"hospital-a", "hospital-c"}
    assert first.dropouts == {
        "hospital-b": "ClosedWardError: the ward is closed today: ask again tomorrow"
    }
    assert set(second.sites) == set(HOSPITALS)
    assert second.dropouts == {}
    np.testing.assert_allclose(values_of(result.arrays), [3.0, 3.0], rtol=1e-6)


def test_an_unforeseen_failure_is_a_dropout_that_tells_no_details() -> None:
    _, strategy = federate(
        {"hospital-b": raises(ValueError("could not convert string to float: 'canary-4711'"))},
        quorum=2,
    )
    assert strategy.reports[0].dropouts == {
        "hospital-b": "SiteFailedError: hospital-b failed with ValueError: see the site's own log "
        "for details"
    }


def test_below_the_quorum_the_error_names_sites_and_causes() -> None:
    with pytest.raises(QuorumNotReachedError) as caught:
        federate(
            {
                "hospital-a": raises(ClosedWardError("closed")),
                "hospital-c": raises(KeyError("canary-4711")),
            },
            quorum=2,
        )
    message = str(caught.value)
    assert message.startswith("round 1: 1 sites delivered an update, the quorum is 2")
    assert "hospital-a: ClosedWardError: closed" in message
    assert "hospital-c: SiteFailedError: hospital-c failed with KeyError" in message
    assert "canary" not in message
    assert set(caught.value.dropouts) == {"hospital-a", "hospital-c"}
    assert isinstance(caught.value, FederationError)


def two_records(message: Message, context: Context) -> RecordDict:
    content = reply(arrays_of(1.0, 1.0))
    content["more"] = arrays_of(1.0, 1.0)
    return content


def two_metric_records(message: Message, context: Context) -> RecordDict:
    content = reply(arrays_of(1.0, 1.0))
    content["more"] = MetricRecord({"x": 1})
    return content


def anonymous_rows(message: Message, context: Context) -> RecordDict:
    content = reply(arrays_of(1.0, 1.0))
    del content[rounds.ABOUT]
    return content


def other_name(message: Message, context: Context) -> RecordDict:
    return reply(ArrayRecord({"v": arrays_of(1.0, 1.0)["w"]}))


BAD_UPDATES: dict[str, tuple[Client, str]] = {
    "shape": (sends(1.0, 2.0, 3.0), "another model"),
    "type": (lambda m, c: reply(arrays_of(1.0, 2.0, dtype="float64")), "another model"),
    "name": (other_name, "another model"),
    "no arrays": (lambda m, c: reply(), "another model"),
    "more arrays": (two_records, "another model"),
    "nan": (sends(float("nan"), 1.0), "not finite.*lower the learning rate"),
    "infinite": (sends(1.0, float("inf")), "not finite.*lower the learning rate"),
    "a figure missing": (sends(1.0, 1.0, train_loss=None), "figures are not the ones"),
    "a figure more": (sends(1.0, 1.0, extra=1.0), "figures are not the ones"),
    "a list": (sends(1.0, 1.0, train_loss=[0.1, 0.2]), "figures are not the ones"),
    "more metrics": (two_metric_records, "figures are not the ones"),
    "no rows": (sends(1.0, 1.0, examples=0), "which rows"),
    "less than no rows": (sends(1.0, 1.0, examples=-3), "which rows"),
    "rows of no version": (anonymous_rows, "which rows"),
}


@pytest.mark.parametrize("kind", BAD_UPDATES)
def test_a_bad_update_does_not_count(kind: str) -> None:
    bad, cause = BAD_UPDATES[kind]
    result, strategy = federate({"hospital-b": bad}, quorum=2, start=(2.0, 4.0))

    assert values_of(result.arrays) == [2.0, 4.0]
    assert set(strategy.reports[0].sites) == {"hospital-a", "hospital-c"}
    with pytest.raises(QuorumNotReachedError, match=f"hospital-b: .*{cause}"):
        federate({"hospital-b": bad})


def test_a_late_site_is_a_dropout_and_its_late_reply_disturbs_nothing() -> None:
    release = threading.Event()
    late: list[threading.Thread] = []

    def slow_at_first(message: Message, context: Context) -> RecordDict:
        if round_of(message) == 1:
            late.append(threading.current_thread())
            assert release.wait(60)
            return reply(arrays_of(1000.0, 1000.0))
        return reply(arrays_of(3.0, 3.0))

    def let_it_finish(report: RoundReport) -> None:
        # Between the rounds, so that the late reply is there before the next one is asked for.
        release.set()
        late[0].join(60)
        assert not late[0].is_alive()

    result, strategy = federate(
        {"hospital-b": slow_at_first}, [let_it_finish], quorum=2, rounds=2, round_deadline=0.5
    )

    first, second = strategy.reports
    assert first.dropouts == {"hospital-b": NO_REPLY}
    assert set(first.sites) == {"hospital-a", "hospital-c"}
    assert second.dropouts == {}
    np.testing.assert_allclose(values_of(result.arrays), [1.0, 1.0], rtol=1e-6)


def test_a_site_that_hangs_is_out_in_every_round_and_never_does_two_things_at_once() -> None:
    release = threading.Event()
    begun: list[int] = []
    threads: list[threading.Thread] = []

    def hangs(message: Message, context: Context) -> RecordDict:
        begun.append(round_of(message))
        threads.append(threading.current_thread())
        assert release.wait(60)
        return echo(message, context)

    try:
        _, strategy = federate({"hospital-a": hangs}, quorum=2, rounds=3, round_deadline=0.5)
    finally:
        release.set()

    assert [r.dropouts for r in strategy.reports] == [{"hospital-a": NO_REPLY}] * 3
    assert all(set(r.sites) == {"hospital-b", "hospital-c"} for r in strategy.reports)
    threads[0].join(60)
    # What it was asked meanwhile was taken back.
    assert begun == [1]


def test_every_site_too_late_is_below_the_quorum() -> None:
    release = threading.Event()

    def hangs(message: Message, context: Context) -> RecordDict:
        assert release.wait(60)
        return echo(message, context)

    try:
        with pytest.raises(QuorumNotReachedError, match=f"hospital-a: {NO_REPLY}"):
            federate(dict.fromkeys(HOSPITALS, hangs), round_deadline=0.1)
    finally:
        release.set()

import itertools
import threading
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict

from fl_assets.errors import FlAssetsError
from fl_assets.federation import rounds
from fl_assets.federation.job import FederationError, FinalReport
from fl_assets.federation.rounds import RoundReport
from fl_assets.federation.strategies import attendance
from fl_assets.federation.strategies.consortium import (
    NOT_ONLINE,
    ConsortiumStrategy,
    QuorumNotReachedError,
    ServerDivergedError,
)
from fl_assets.federation.strategies.flower import build_strategy
from fl_assets.federation.strategies.wave import NO_REPLY
from fl_assets_tests.federation.little import (
    HOSPITALS,
    RUN,
    STATEMENT,
    Client,
    Grid,
    answer,
    arrays_of,
    echo,
    federate,
    little_recipe,
    reply,
    round_of,
    values_of,
)


def sends(*values: float, **figures: Any) -> Client:
    return lambda message, context: reply(arrays_of(*values), **figures)


class ClosedWardError(FlAssetsError):
    """A failure of ours, whose message is written for everyone to read."""


def raises(error: Exception) -> Client:
    def client(message: Message, context: Context) -> RecordDict:
        raise error

    return client


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


def consortium(grid: Grid, recipe: dict[str, Any] | None = None, **phase: Any) -> Any:
    asked = little_recipe(**recipe or {})
    hospitals = grid.hospitals
    inner = build_strategy(asked, len(hospitals))
    return ConsortiumStrategy(inner, asked, RUN, hospitals, **phase)


def test_the_order_of_arrival_does_not_change_a_bit() -> None:
    # Sums of these in another order differ in float32.
    updates = {"hospital-a": 1e8, "hospital-b": 1.0, "hospital-c": -1e8}
    grid, found = Grid({}), set()
    for order in itertools.permutations(range(3)):
        strategy = consortium(grid)
        asked = list(strategy.configure_train(1, arrays_of(0.0), ConfigRecord(), grid))
        replies = [
            answer(m, reply(arrays_of(updates[grid.hospitals[m.metadata.dst_node_id]])))
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
    final = FinalReport(examples=10, loss=0.5, auroc=0.75, threshold=0.1, privacy=STATEMENT)
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


BAD_UPDATES: dict[str, tuple[Client, str]] = {
    "shape": (sends(1.0, 2.0, 3.0), "another model"),
    "type": (lambda m, c: reply(arrays_of(1.0, 2.0, dtype="float64")), "another model"),
    "name": (lambda m, c: reply(ArrayRecord({"v": arrays_of(1.0, 1.0)["w"]})), "another model"),
    "nan": (sends(float("nan"), 1.0), "not finite.*lower the learning rate"),
    "a figure missing": (sends(1.0, 1.0, train_loss=None), "figures are not the ones"),
    "no rows": (sends(1.0, 1.0, examples=0), "which rows"),
}


@pytest.mark.parametrize("kind", BAD_UPDATES)
def test_a_bad_update_does_not_count(kind: str) -> None:
    bad, cause = BAD_UPDATES[kind]
    result, strategy = federate({"hospital-b": bad}, quorum=2, start=(2.0, 4.0))

    assert values_of(result.arrays) == [2.0, 4.0]
    assert set(strategy.reports[0].sites) == {"hospital-a", "hospital-c"}
    assert strategy.reports[0].rejected == ("hospital-b",)
    with pytest.raises(QuorumNotReachedError, match=f"hospital-b: .*{cause}"):
        federate({"hospital-b": bad})


def test_an_update_far_beyond_the_others_does_not_count() -> None:
    clients = {
        "hospital-a": sends(1.0, 0.0),
        "hospital-b": sends(0.0, 100.0),
        "hospital-c": sends(0.0, 2.0),
    }
    result, strategy = federate(clients, quorum=2)
    assert values_of(result.arrays) == [0.5, 1.0]
    (report,) = strategy.reports
    assert report.rejected == ("hospital-b",)
    assert "norm 100, 50 times the round's median 2" in report.dropouts["hospital-b"]

    result, _ = federate(clients, quorum=2, norm_bound={"relative": None})
    assert values_of(result.arrays) == pytest.approx([1 / 3, 34.0])
    result, _ = federate(clients, quorum=1, norm_bound={"absolute": 1.5})
    assert values_of(result.arrays) == [1.0, 0.0]


@pytest.mark.parametrize("kind", ["median", "trimmed_mean", "krum"])
def test_what_a_robust_strategy_takes_is_counted(kind: str) -> None:
    clients = {name: sends(float(i), 1.0) for i, name in enumerate(HOSPITALS)}
    result, strategy = federate(clients, strategy={"kind": kind}, rounds=2)
    size = len(arrays_of(0.0, 0.0)["w"].data)
    assert [report.received for report in strategy.reports] == [3 * size] * 2
    assert result.arrays["w"].numpy().dtype == np.float32
    assert values_of(result.arrays)[1] == 1.0


def test_the_server_optimiser_keeps_the_models_type() -> None:
    clients = dict.fromkeys(HOSPITALS, sends(1.0, 1.0))
    result, strategy = federate(clients, strategy={"kind": "fedadam"}, rounds=3)
    assert result.arrays["w"].numpy().dtype == np.float32
    assert all(set(report.sites) == set(HOSPITALS) for report in strategy.reports)


@pytest.mark.filterwarnings("ignore:overflow")
def test_a_server_that_diverges_says_so() -> None:
    clients = dict.fromkeys(HOSPITALS, sends(1e30, 1.0))
    strategy = {"kind": "fedavgm", "server_lr": 1e30}
    with pytest.raises(ServerDivergedError, match=r"round 1: .*lower `server_lr`"):
        federate(clients, strategy=strategy)


def moves(message: Message, context: Context) -> RecordDict:
    """Add one to the first weight."""
    first, *others = values_of(message.content.array_records[rounds.ARRAYS])
    return reply(arrays_of(first + 1.0, *others))


def test_rounds_go_on_from_those_done_before() -> None:
    seen: list[int] = []

    def note(message: Message, context: Context) -> RecordDict:
        seen.append(round_of(message))
        return moves(message, context)

    grid = Grid({**dict.fromkeys(HOSPITALS, moves), "hospital-a": note})
    strategy = consortium(grid, {"rounds": 5}, done=3)
    result = strategy.start(grid, arrays_of(3.0), num_rounds=2, timeout=60)

    assert values_of(result.arrays) == [5.0]
    assert seen == [4, 5]
    assert [(r.round, r.rounds) for r in strategy.reports] == [(4, 5), (5, 5)]
    assert set(strategy.final) == set(HOSPITALS)


def test_after_the_last_round_the_evaluation_can_be_done_alone() -> None:
    grid = Grid({})
    strategy = consortium(grid, {"rounds": 5}, done=5)
    asked = strategy.configure_evaluate(0, arrays_of(3.0), ConfigRecord(), grid)
    strategy.aggregate_evaluate(0, grid.send_and_receive(asked, timeout=60))
    assert set(strategy.final) == set(HOSPITALS)


def test_a_phase_of_its_own_has_its_own_messages_and_no_evaluation() -> None:
    grid = Grid(dict.fromkeys(HOSPITALS, moves), action="pretrain")
    strategy = consortium(grid, {"rounds": 9}, rounds=2, action="pretrain")
    result = strategy.start(grid, arrays_of(0.0), num_rounds=2, timeout=60)
    assert values_of(result.arrays) == [2.0]
    assert [(r.round, r.rounds) for r in strategy.reports] == [(1, 2), (2, 2)]
    assert strategy.final == {}


def test_the_checkpoint_is_made_before_anyone_hears_of_the_round() -> None:
    calls: list[tuple[str, int, list[float]]] = []

    def keep(round_: int, arrays: ArrayRecord, reports: Any) -> None:
        assert reports[-1].round == round_ == len(reports)
        calls.append(("model", round_, values_of(arrays)))

    def observe(report: RoundReport) -> None:
        calls.append(("observer", report.round, []))

    federate(dict.fromkeys(HOSPITALS, moves), [observe], start=(0.0,), on_model=keep, rounds=2)
    assert calls == [
        ("model", 1, [1.0]),
        ("observer", 1, []),
        ("model", 2, [2.0]),
        ("observer", 2, []),
    ]


def test_times_are_told_apart() -> None:
    _, strategy = federate({}, rounds=3)
    first, *others = strategy.reports
    assert first.gap is None
    for report in others:
        assert report.gap is not None
        assert 0 < report.gap < 10
    assert all(0 < report.aggregation < report.seconds for report in strategy.reports)
    # A gap begins with the aggregation of the round before.
    assert all(b.gap > a.aggregation for a, b in itertools.pairwise(strategy.reports))


def test_a_fraction_of_the_sites_is_asked_and_the_others_are_no_dropouts() -> None:
    names = [f"hospital-{i}" for i in range(10)]
    asked: list[str] = []

    def note(message: Message, context: Context) -> RecordDict:
        asked.append(str(context.node_config["hospital"]))
        return echo(message, context)

    def run() -> list[set[str]]:
        grid = Grid(dict.fromkeys(names, note), names)
        strategy = consortium(grid, {"rounds": 6, "fraction": 0.3, "quorum": 2})
        strategy.start(grid, arrays_of(0.0), num_rounds=6, timeout=60)
        assert all(report.dropouts == {} for report in strategy.reports)
        assert set(strategy.final) == set(names)
        return [set(report.sites) for report in strategy.reports]

    found = run()
    assert all(len(sites) == 3 for sites in found)
    assert len(set().union(*found)) > 5
    assert [set(asked[3 * i : 3 * i + 3]) for i in range(6)] == found
    assert run() == found


def test_a_hospital_that_goes_is_not_waited_for_and_may_come_back() -> None:
    grid = Grid({})
    away = {1: {"hospital-b"}, 2: set(), 3: {"hospital-c"}, 4: {"hospital-b"}}

    def move(report: RoundReport) -> None:
        grid.away = away.get(report.round, set())

    strategy = consortium(grid, {"rounds": 4, "quorum": 2}, observers=[move])
    strategy.start(grid, arrays_of(0.0), num_rounds=4, timeout=60)
    assert [report.dropouts for report in strategy.reports] == [
        {},
        {"hospital-b": NOT_ONLINE},
        {},
        {"hospital-c": NOT_ONLINE},
    ]
    assert all(report.rejected == () for report in strategy.reports)
    # Asked as well, hospital-b being away after the last round.
    assert set(strategy.final) == {"hospital-a", "hospital-c"}


def test_a_late_joiner_takes_part_from_the_next_round_on() -> None:
    names = (*HOSPITALS, "hospital-d")
    grid = Grid(dict.fromkeys(names, moves), names)
    grid.away = {"hospital-d"}

    def admit(report: RoundReport) -> None:
        grid.away = {"hospital-a"} if report.round == 2 else set()

    strategy = consortium(grid, {"rounds": 3}, observers=[admit])
    strategy.start(grid, arrays_of(0.0), num_rounds=3, timeout=60)
    first, second, third = strategy.reports
    # Nobody misses a hospital that was never of the run.
    assert (set(first.sites), first.dropouts) == (set(HOSPITALS), {})
    assert (set(second.sites), second.dropouts) == (set(names), {})
    # It makes up for one that has gone.
    assert set(third.sites) == set(names) - {"hospital-a"}
    assert third.dropouts == {"hospital-a": NOT_ONLINE}


def test_too_few_online_end_the_run_with_the_names_of_the_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attendance, "POLL_SECONDS", 0.01)
    grid = Grid({})

    def leave(report: RoundReport) -> None:
        grid.away = {"hospital-a", "hospital-c"}

    recipe = {"rounds": 2, "quorum": 2, "round_deadline": 0.1}
    strategy = consortium(grid, recipe, observers=[leave])
    with pytest.raises(QuorumNotReachedError) as caught:
        strategy.start(grid, arrays_of(0.0), num_rounds=2, timeout=60)
    assert "round 2: 0 sites delivered an update, the quorum is 2" in str(caught.value)
    assert caught.value.dropouts == dict.fromkeys(("hospital-a", "hospital-c"), NOT_ONLINE)


def test_replays_are_refused_and_named_round_by_round() -> None:
    captured: dict[int, RecordDict] = {}

    def replays(message: Message, context: Context) -> RecordDict:
        round_ = round_of(message)
        if round_ == 1:
            content = answer(message, reply(arrays_of(5.0))).content
            captured[1] = content
            return content
        if round_ == 2:
            return captured[1]
        about = captured[1].config_records[rounds.ABOUT]
        if round_ == 3:
            about[rounds.ROUND] = 3
        else:
            about[rounds.RUN] = "an-earlier-run"
        return captured[1]

    clients: dict[str, Client] = {"hospital-b": replays}
    _, strategy = federate(clients, start=(0.0,), quorum=2, rounds=4)
    first, second, third, fourth = strategy.reports
    assert set(first.sites) == set(HOSPITALS)
    assert "its reply is to round 1, this is 2: replayed" in second.dropouts["hospital-b"]
    assert "to another message of round 3: replayed" in third.dropouts["hospital-b"]
    assert (
        "its reply is to run 'an-earlier-run', this is 'little-run'"
        in (fourth.dropouts["hospital-b"])
    )
    assert all(report.rejected == ("hospital-b",) for report in strategy.reports[1:])


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

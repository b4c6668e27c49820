from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable

import pytest

from fl_assets.federation.flower_internals import NodeInfo
from fl_assets.federation.strategies import attendance
from fl_assets.federation.strategies.attendance import Attendance
from fl_assets_tests.federation.little import HOSPITALS, Grid, little_recipe

MANY = [f"hospital-{i:02d}" for i in range(20)]


class Arriving(Grid):
    """A grid whose hospitals come at their own look at who is there."""

    def __init__(self, first_look: dict[str, int]) -> None:
        super().__init__({}, list(first_look))
        self.first_look = first_look
        self.looks = 0

    def get_nodes(self) -> list[NodeInfo]:
        self.looks += 1
        return [n for n in super().get_nodes() if self.first_look[n.name] <= self.looks]


def nodes(names: Iterable[str]) -> dict[int, str]:
    return dict(enumerate(names, start=1))


def draw(names: Iterable[str], round_: int, seed: int = 42, **recipe: object) -> list[str]:
    online = {name: node for node, name in nodes(names).items()}
    asked = little_recipe(seed=seed, **recipe)
    drawn = Attendance(asked, nodes(MANY)).draw(online, round_)
    assert all(online[name] == node for name, node in drawn.items())
    return list(drawn)


def test_everyone_is_asked_where_the_recipe_says_nothing() -> None:
    assert draw(MANY, 1) == MANY


def test_the_draw_depends_on_names_seed_and_round_alone() -> None:
    first = draw(MANY, 1, fraction=0.3)
    assert len(first) == 6
    assert first == sorted(first)
    assert draw(reversed(MANY), 1, fraction=0.3) == first
    assert draw(MANY, 2, fraction=0.3) != first
    assert draw(MANY, 1, seed=43, fraction=0.3) != first
    assert draw(MANY, 1, seed=-1, fraction=0.3) != first


def test_every_hospital_has_its_turn() -> None:
    turns = Counter(itertools.chain(*(draw(MANY, r, fraction=0.25) for r in range(200))))
    assert turns.keys() == set(MANY)
    # Binomial with mean 50 and deviation 6.
    assert all(25 < count < 75 for count in turns.values())


def test_never_fewer_than_the_quorum_and_never_more_than_there_are() -> None:
    assert len(draw(MANY, 1, fraction=0.1, quorum=5)) == 5
    assert draw(MANY[:4], 1, fraction=0.3) == MANY[:4]


def test_whoever_is_missing_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attendance, "POLL_SECONDS", 0.001)
    grid = Arriving({"hospital-a": 1, "hospital-b": 3, "hospital-c": 5})
    found = Attendance(little_recipe(), nodes(HOSPITALS)).gather(grid)
    assert list(found) == list(HOSPITALS)
    assert grid.looks == 5


def test_nobody_is_waited_for_where_the_quorum_is_there() -> None:
    grid = Arriving({"hospital-a": 1, "hospital-b": 1, "hospital-c": 10**9})
    found = Attendance(little_recipe(quorum=2), nodes(HOSPITALS)).gather(grid)
    assert list(found) == ["hospital-a", "hospital-b"]
    assert grid.looks == 1


def test_the_waiting_ends_with_the_deadline_and_is_no_busy_loop() -> None:
    grid = Arriving({"hospital-a": 1, "hospital-b": 10**9})
    recipe = little_recipe(quorum=2, round_deadline=0.5)
    found = Attendance(recipe, nodes(HOSPITALS)).gather(grid)
    assert list(found) == ["hospital-a"]
    assert 2 <= grid.looks <= 5


class Nodes(Grid):
    """A grid that gives these nodes."""

    def __init__(self, *given: NodeInfo) -> None:
        super().__init__({})
        self.given = given

    def get_nodes(self) -> list[NodeInfo]:
        return list(self.given)


def test_a_hospital_that_joins_is_of_the_run_and_does_not_raise_the_quorum() -> None:
    found = Attendance(little_recipe(), nodes(HOSPITALS))
    online = found.online(Nodes(*(NodeInfo(node_id=i, name=f"hospital-{i}") for i in range(5, 10))))
    assert len(online) == 5
    assert found.hospitals == {*HOSPITALS, *online}
    assert found.quorum == 3


def test_a_grid_without_names_gets_them_from_the_run() -> None:
    given = (NodeInfo(node_id=2), NodeInfo(node_id=77))
    found = Attendance(little_recipe(), nodes(HOSPITALS))
    assert found.online(Nodes(*given)) == {"hospital-b": 2}


def test_a_node_that_the_link_calls_offline_is_not_there() -> None:
    given = (
        NodeInfo(node_id=1, name="hospital-a", status="offline"),
        NodeInfo(node_id=2, name="hospital-b", status="online"),
        NodeInfo(node_id=3, name="hospital-c", status="unregistered"),
    )
    found = Attendance(little_recipe(), nodes(HOSPITALS))
    assert found.online(Nodes(*given)) == {"hospital-b": 2}


def test_a_hospital_that_comes_back_as_another_node_is_the_same_hospital() -> None:
    found = Attendance(little_recipe(), nodes(HOSPITALS))
    assert found.online(Nodes(NodeInfo(node_id=9, name="hospital-a"))) == {"hospital-a": 9}
    assert found.hospitals == set(HOSPITALS)

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Context, Message, RecordDict

from fl_assets.federation import rounds
from fl_assets.federation.strategies.consortium import ConsortiumStrategy
from fl_assets.federation.strategies.flower import build_strategy
from fl_assets.federation.strategies.state import (
    State,
    StrategyStateError,
    restore_state,
    strategy_state,
)
from fl_assets.learning.weights import weights_from_bytes, weights_to_bytes
from fl_assets_tests.federation.little import RUN, Client, Grid, little_recipe, reply, round_of

ROUNDS = 6
MEMORY = {
    "fedavg": set(),
    "fedprox": set(),
    "fedavgm": {"momentum_vector/0000", "momentum_vector/0001"},
    "fedadam": {"m_t/z.weight", "m_t/a.bias", "v_t/z.weight", "v_t/a.bias"},
    "fedyogi": {"m_t/z.weight", "m_t/a.bias", "v_t/z.weight", "v_t/a.bias"},
    "fedadagrad": {"m_t/z.weight", "m_t/a.bias", "v_t/z.weight", "v_t/a.bias"},
    "median": set(),
    "trimmed_mean": set(),
    "krum": set(),
}


def first() -> ArrayRecord:
    random = np.random.default_rng(0)
    # In another order than that of their names.
    return ArrayRecord(
        {
            "z.weight": Array(random.normal(size=(3, 3)).astype(np.float32)),
            "a.bias": Array(random.normal(size=3).astype(np.float32)),
        }
    )


def drifts(seed: int) -> Client:
    """A site that moves the global weights by random steps, which depend on the round alone."""

    def client(message: Message, context: Context) -> RecordDict:
        random = np.random.default_rng([seed, round_of(message)])
        sent = message.content.array_records[rounds.ARRAYS]
        moved = {
            name: Array(array.numpy() + random.normal(size=array.shape).astype(np.float32))
            for name, array in sent.items()
        }
        return reply(ArrayRecord(moved), examples=10 + seed)

    return client


def some_rounds(
    asked: dict[str, Any], arrays: ArrayRecord, state: State, done: int, until: int
) -> tuple[ArrayRecord, State]:
    recipe = little_recipe(strategy=asked, rounds=ROUNDS)
    grid = Grid({f"hospital-{name}": drifts(seed) for seed, name in enumerate("abc")})
    inner = build_strategy(recipe, 3)
    restore_state(inner, state)
    strategy = ConsortiumStrategy(inner, recipe, RUN, grid.hospitals, done=done)
    result = strategy.start(grid, arrays, num_rounds=until - done, timeout=60)
    assert [report.round for report in strategy.reports] == list(range(done + 1, until + 1))
    return result.arrays, strategy_state(inner)


@pytest.mark.parametrize("kind", MEMORY)
def test_a_restored_strategy_goes_on_bit_for_bit(kind: str) -> None:
    whole, state = some_rounds({"kind": kind}, first(), {}, 0, ROUNDS)

    arrays, half = some_rounds({"kind": kind}, first(), {}, 0, 3)
    # As a checkpoint would keep it.
    half = dict(weights_from_bytes(weights_to_bytes(half)))
    arrays, again = some_rounds({"kind": kind}, arrays, half, 3, ROUNDS)

    assert half.keys() == MEMORY[kind]
    for name, array in whole.items():
        assert arrays[name].numpy().dtype == np.float32
        assert arrays[name].numpy().tobytes() == array.numpy().tobytes()
    assert {n: a.tobytes() for n, a in again.items()} == {n: a.tobytes() for n, a in state.items()}


@pytest.mark.parametrize("kind", [kind for kind, memory in MEMORY.items() if memory])
def test_without_its_memory_it_would_go_elsewhere(kind: str) -> None:
    whole, _ = some_rounds({"kind": kind}, first(), {}, 0, ROUNDS)
    arrays, _ = some_rounds({"kind": kind}, first(), {}, 0, 3)
    arrays, _ = some_rounds({"kind": kind}, arrays, {}, 3, ROUNDS)
    assert arrays["z.weight"].numpy().tobytes() != whole["z.weight"].numpy().tobytes()


@pytest.mark.parametrize("kind", MEMORY)
def test_a_new_strategy_remembers_nothing(kind: str) -> None:
    inner = build_strategy(little_recipe(strategy={"kind": kind}), 3)
    assert strategy_state(inner) == {}
    restore_state(inner, {})
    assert strategy_state(inner) == {}


@pytest.mark.parametrize(
    ("kind", "name"),
    [("fedavg", "m_t/w"), ("fedadam", "momentum_vector/0000"), ("fedavgm", "v_t/w")],
)
def test_the_memory_of_another_kind_is_refused(kind: str, name: str) -> None:
    inner = build_strategy(little_recipe(strategy={"kind": kind}), 3)
    with pytest.raises(StrategyStateError, match=f"holds {name.split('/')[0]}, which Fed"):
        restore_state(inner, {name: np.zeros(2, dtype=np.float32)})

"""Every aggregate against an independent implementation, on random updates."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message
from flwr.serverapp.strategy import FedAvg, FedProx
from numpy.typing import NDArray
from scipy.stats import trim_mean

from fl_assets.federation.recipe import Recipe
from fl_assets.federation.strategies.flower import (
    TooFewSitesError,
    TooFewUpdatesError,
    build_strategy,
    quorum_of,
    sites_asked,
)
from fl_assets_tests.federation.little import Grid, little_recipe, reply

Arrays = dict[str, NDArray[np.float64]]
SHAPES = {"layer.weight": (4, 3), "layer.bias": (4,), "scale": ()}
ROWS = (120, 45, 300, 77, 210)
ROUNDS = 4


def recipe(strategy: dict[str, Any], **changes: Any) -> Recipe:
    return little_recipe(strategy=strategy, **changes)


def some(seed: int, scale: float = 1.0) -> Arrays:
    random = np.random.default_rng(seed)
    # Numbers of float32, so that both sides start from the same ones.
    return {
        name: (random.normal(size=shape) * scale).astype(np.float32).astype(np.float64)
        for name, shape in SHAPES.items()
    }


def record(arrays: Arrays) -> ArrayRecord:
    return ArrayRecord({k: Array(np.asarray(v, dtype=np.float32)) for k, v in arrays.items()})


def updates_of(round_: int, sites: int) -> list[Arrays]:
    return [some(1000 * round_ + site, 1 + site) for site in range(sites)]


def run(strategy: FedAvg, start: Arrays, waves: Sequence[Sequence[Arrays]]) -> list[Arrays]:
    """Return the global model after each wave of updates."""
    names = [f"hospital-{i}" for i in range(len(waves[0]))]
    grid = Grid({}, names)
    arrays, found = record(start), []
    for round_, updates in enumerate(waves, start=1):
        asked = sorted(
            strategy.configure_train(round_, arrays, ConfigRecord(), grid),
            key=lambda message: message.metadata.dst_node_id,
        )
        replies = [
            Message(reply(record(update), examples=rows), reply_to=message)
            for message, update, rows in zip(asked, updates, ROWS, strict=False)
        ]
        aggregate, _ = strategy.aggregate_train(round_, replies)
        assert aggregate is not None
        found.append({k: v.numpy().astype(np.float64) for k, v in aggregate.items()})
        arrays = record(found[-1])
    return found


def stacked(updates: Sequence[Arrays], name: str) -> NDArray[np.float64]:
    return np.stack([update[name] for update in updates])


def mean(updates: Sequence[Arrays]) -> Arrays:
    rows = ROWS[: len(updates)]
    return {n: np.average(stacked(updates, n), axis=0, weights=rows) for n in SHAPES}


def check(
    strategy: dict[str, Any], expected: Sequence[Arrays], sites: int = 3, **changes: Any
) -> None:
    waves = [updates_of(r, sites) for r in range(1, len(expected) + 1)]
    found = run(build_strategy(recipe(strategy, **changes), sites), some(0), waves)
    for got, wanted in zip(found, expected, strict=True):
        for name in SHAPES:
            np.testing.assert_allclose(got[name], wanted[name], rtol=2e-5, atol=2e-6)


def waves(sites: int = 3) -> list[list[Arrays]]:
    return [updates_of(r, sites) for r in range(1, ROUNDS + 1)]


@pytest.mark.parametrize(
    "strategy",
    [
        {"kind": "fedavg"},
        {"kind": "fedprox", "mu": 0.3},
        {"kind": "fedprox", "mu": 0.0},
        {"kind": "fedavgm", "server_lr": 1.0, "momentum": 0.0},
    ],
)
def test_fedavg_and_what_degenerates_to_it_are_the_weighted_mean(strategy: dict[str, Any]) -> None:
    check(strategy, [mean(updates) for updates in waves()])


def test_fedprox_tells_the_sites_its_mu() -> None:
    proximal = build_strategy(recipe({"kind": "fedprox", "mu": 0.3}), 3)
    assert isinstance(proximal, FedProx)
    (message, *_) = proximal.configure_train(1, record(some(0)), ConfigRecord(), Grid({}))
    assert message.content.config_records["config"]["proximal-mu"] == 0.3


def test_fedavgm_is_sgd_with_momentum_on_the_mean_update() -> None:
    lr, momentum = 0.7, 0.8
    now, velocity, expected = some(0), {n: np.zeros(s) for n, s in SHAPES.items()}, []
    for updates in waves():
        gradient = {n: now[n] - mean(updates)[n] for n in SHAPES}
        velocity = {n: momentum * velocity[n] + gradient[n] for n in SHAPES}
        now = {n: now[n] - lr * velocity[n] for n in SHAPES}
        expected.append(now)
    check({"kind": "fedavgm", "server_lr": lr, "momentum": momentum}, expected)


def adaptive(kind: str, lr: float, b1: float, b2: float, tau: float) -> list[Arrays]:
    """Algorithm 2 of Reddi et al. 2021 with both moments from 0, and Adam's bias correction."""
    now, expected = some(0), []
    m, v = ({n: np.zeros(s) for n, s in SHAPES.items()} for _ in range(2))
    for round_, updates in enumerate(waves(), start=1):
        delta = {n: mean(updates)[n] - now[n] for n in SHAPES}
        step = lr
        for n in SHAPES:
            m[n] = b1 * m[n] + (1 - b1) * delta[n]
            square = delta[n] ** 2
            if kind == "fedadagrad":
                v[n] = v[n] + square
            elif kind == "fedyogi":
                v[n] = v[n] - (1 - b2) * square * np.sign(v[n] - square)
            else:
                v[n] = b2 * v[n] + (1 - b2) * square
                step = lr * np.sqrt(1 - b2 ** (round_ + 1)) / (1 - b1 ** (round_ + 1))
        now = {n: now[n] + step * m[n] / (np.sqrt(v[n]) + tau) for n in SHAPES}
        expected.append(now)
    return expected


@pytest.mark.parametrize("kind", ["fedadam", "fedyogi"])
def test_fedadam_and_fedyogi_follow_the_paper(kind: str) -> None:
    asked = {"server_lr": 0.2, "beta_1": 0.8, "beta_2": 0.95, "tau": 0.01}
    check({"kind": kind, **asked}, adaptive(kind, *asked.values()))


def test_fedadagrad_follows_the_paper() -> None:
    expected = adaptive("fedadagrad", 0.2, 0.0, 0.0, 0.01)
    check({"kind": "fedadagrad", "server_lr": 0.2, "tau": 0.01}, expected)


@pytest.mark.parametrize("sites", [2, 3, 4, 5])
def test_the_median_is_numpys_and_ignores_rows(sites: int) -> None:
    expected = [
        {n: np.median(stacked(updates, n), axis=0) for n in SHAPES} for updates in waves(sites)
    ]
    check({"kind": "median"}, expected, sites)


@pytest.mark.parametrize(("sites", "trim"), [(4, 0.25), (5, 0.25), (5, 0.4), (3, 0.34), (5, 0.0)])
def test_the_trimmed_mean_is_scipys(sites: int, trim: float) -> None:
    expected = [{n: trim_mean(stacked(w, n), trim, axis=0) for n in SHAPES} for w in waves(sites)]
    check({"kind": "trimmed_mean", "trim": trim}, expected, sites)


@pytest.mark.parametrize(("sites", "trim"), [(3, 0.25), (4, 0.1), (5, 0.01)])
def test_where_the_fraction_is_less_than_one_update_one_is_trimmed(sites: int, trim: float) -> None:
    expected = [
        {n: trim_mean(stacked(w, n), 1.01 / sites, axis=0) for n in SHAPES} for w in waves(sites)
    ]
    check({"kind": "trimmed_mean", "trim": trim}, expected, sites)


def test_a_round_with_a_dropout_is_trimmed_as_well() -> None:
    strategy = build_strategy(recipe({"kind": "trimmed_mean", "trim": 0.25}, quorum=3), 4)
    updates = updates_of(1, 3)
    (found,) = run(strategy, some(0), [updates])
    for name in SHAPES:
        expected = np.median(stacked(updates, name), axis=0)
        np.testing.assert_allclose(found[name], expected, rtol=1e-6)


def nearest(updates: Sequence[Arrays], malicious: int) -> Arrays:
    """Krum by brute force: over every set of n - f - 2 others of each update."""
    flat = [np.concatenate([u[n].ravel() for n in SHAPES]) for u in updates]
    count = len(flat) - malicious - 2
    scores = [
        min(
            sum(float(((x - flat[other]) ** 2).sum()) for other in others)
            for others in itertools.combinations([i for i in range(len(flat)) if i != me], count)
        )
        for me, x in enumerate(flat)
    ]
    return updates[int(np.argmin(scores))]


@pytest.mark.parametrize(("sites", "malicious"), [(3, 0), (5, 0), (5, 1)])
def test_krum_takes_the_update_nearest_to_its_neighbours(sites: int, malicious: int) -> None:
    expected = [nearest(updates, malicious) for updates in waves(sites)]
    check({"kind": "krum", "malicious": malicious}, expected, sites)


def test_krum_tells_hospitals_apart_whose_weights_are_large() -> None:
    strategy = build_strategy(recipe({"kind": "krum", "malicious": 1}), 5)
    found, expected = [], []
    for seed in range(20):
        updates = [
            {n: np.float64(np.float32(1e3 + v)) for n, v in some(100 * seed + i, 0.01).items()}
            for i in range(5)
        ]
        expected.append(nearest(updates, 1))
        found += run(strategy, some(0), [updates])
    for got, wanted in zip(found, expected, strict=True):
        for name in SHAPES:
            np.testing.assert_array_equal(got[name], wanted[name])


@pytest.mark.parametrize(("sites", "quorum"), [(0, None), (2, 3)])
def test_a_quorum_beyond_the_sites_fails_where_flower_would_wait(
    sites: int, quorum: int | None
) -> None:
    with pytest.raises(TooFewSitesError, match=f"has {sites} sites and needs {quorum or 1}"):
        build_strategy(recipe({"kind": "fedavg"}, quorum=quorum), sites)


@pytest.mark.parametrize(
    ("strategy", "sites", "changes", "needed"),
    [
        ({"kind": "krum", "malicious": 1}, 4, {}, 5),
        ({"kind": "krum", "malicious": 1}, 6, {"quorum": 4}, 5),
        ({"kind": "krum", "malicious": 1}, 6, {"fraction": 0.5}, 5),
        ({"kind": "krum"}, 2, {}, 3),
        ({"kind": "trimmed_mean"}, 2, {}, 3),
        ({"kind": "trimmed_mean"}, 4, {"quorum": 2}, 3),
    ],
)
def test_a_robust_strategy_with_too_few_updates_is_refused(
    strategy: dict[str, Any], sites: int, changes: dict[str, Any], needed: int
) -> None:
    with pytest.raises(TooFewUpdatesError, match=f"{strategy['kind']} needs {needed} updates"):
        build_strategy(recipe(strategy, **changes), sites)


@pytest.mark.parametrize(
    ("fraction", "quorum", "sites", "asked", "needed"),
    [
        (1.0, None, 3, 3, 3),
        (1.0, 2, 3, 3, 2),
        (0.5, None, 5, 3, 3),
        (0.1, 2, 5, 2, 2),
        (0.1, None, 30, 3, 3),
        (0.01, None, 3, 1, 1),
        (0.5, 1, 100, 50, 1),
    ],
)
def test_how_many_are_asked_and_needed(
    fraction: float, quorum: int | None, sites: int, asked: int, needed: int
) -> None:
    found = recipe({"kind": "fedavg"}, fraction=fraction, quorum=quorum)
    assert (sites_asked(found, sites), quorum_of(found, sites)) == (asked, needed)

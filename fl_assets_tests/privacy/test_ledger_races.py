"""Whoever asks at the same time: nobody overspends, and nobody is forgotten."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from fl_assets.privacy.accounting import epsilon
from fl_assets.privacy.ledger import BudgetExceededError, Ledger
from fl_assets.storage import FolderStore, ObjectExistsError, ObjectInfo
from fl_assets.storage.s3 import S3Store
from fl_assets_tests.privacy.ledgers import (
    BUDGET,
    DELTA,
    gaussian,
    kinds,
    part,
    reserve,
)

RACES = 1000
CONTENDERS = 3
"""Of each race: threads that are let go at the same moment."""
WORKERS = (3, 4)
"""Processes, and threads in each."""
SMALL = gaussian(0.5)
HALF = gaussian(BUDGET.epsilon * 0.7)
"""One fits into the whole budget, and two do not."""


class Careless(FolderStore):
    """A store whose conditional put looks, and then puts."""

    def put_if_absent(self, key: str, data: bytes) -> ObjectInfo:
        if self.exists(key):
            raise ObjectExistsError(self.uri, key)
        return self.put(key, data)


def overspent(folder: Path, kind: type[FolderStore] = FolderStore) -> bool:
    """Race for the whole budget of a new ledger; tells whether more than one got it."""
    start = Barrier(CONTENDERS)

    def contend(worker: int) -> bool:
        ledger = Ledger(kind(folder), "hospital-a")
        start.wait()
        try:
            reserve(ledger, f"r{worker}", HALF, 2.1)
        except BudgetExceededError:
            return False
        return True

    with ThreadPoolExecutor(CONTENDERS) as pool:
        granted = sum(pool.map(contend, range(CONTENDERS)))
    if kind is FolderStore:
        entries = kinds(Ledger(kind(folder), "hospital-a"))
        assert Counter(entries) == {"reserve": 1, "refuse": CONTENDERS - 1}
    return granted > 1


def count_overspent(arguments: tuple[Path, int]) -> int:
    """Run some of the races, in a process of their own."""
    folder, process = arguments
    mine = range(process, RACES, WORKERS[0])
    return sum(overspent(folder / f"race-{number}") for number in mine)


def race(folder: Path, worker: int, attempts: int) -> list[str]:
    """Reserve with a ledger object of the worker's own; returns how each attempt ended."""
    ledger = Ledger(FolderStore(folder), "hospital-a")
    outcomes = []
    for attempt in range(attempts):
        try:
            reserve(ledger, f"w{worker}-{attempt}", SMALL, 0.5)
        except BudgetExceededError:
            outcomes.append("refused")
        else:
            outcomes.append("reserved")
    return outcomes


def race_in_threads(arguments: tuple[Path, int]) -> list[str]:
    folder, process = arguments
    processes, threads = WORKERS
    workers = [process * threads + thread for thread in range(threads)]
    shares = [len(range(worker, RACES, processes * threads)) for worker in workers]
    with ThreadPoolExecutor(threads) as pool:
        found = pool.map(race, [folder] * threads, workers, shares)
        return [outcome for outcomes in found for outcome in outcomes]


@pytest.fixture
def nearly_spent(tmp_path: Path) -> Path:
    """A ledger with room for one more request of 0.5, and not for two."""
    ledger = Ledger(FolderStore(tmp_path / "raced"), "hospital-a")
    number = 0
    while epsilon((*ledger.spent_events(), SMALL, SMALL), DELTA) <= BUDGET.epsilon:
        reserve(ledger, f"before-{number}", SMALL, 0.5)
        number += 1
    return tmp_path / "raced"


def test_in_a_thousand_races_for_the_last_epsilon_nobody_overspends(tmp_path: Path) -> None:
    """Each from a new ledger, with room for one of those that are let go together."""
    context = multiprocessing.get_context("forkserver")
    with context.Pool(WORKERS[0]) as pool:
        jobs = [(tmp_path, process) for process in range(WORKERS[0])]
        assert sum(pool.map(count_overspent, jobs, 1)) == 0


def test_without_the_conditional_put_such_races_overspend(tmp_path: Path) -> None:
    """Or the test above could not fail."""
    assert any(overspent(tmp_path / f"race-{number}", Careless) for number in range(RACES))


def test_a_thousand_reservations_race_for_the_last_epsilon(nearly_spent: Path) -> None:
    """From threads of several processes; without the conditional put many would get it."""
    before = len(Ledger(FolderStore(nearly_spent), "hospital-a").entries())
    context = multiprocessing.get_context("forkserver")
    with context.Pool(WORKERS[0]) as pool:
        found = pool.map(race_in_threads, [(nearly_spent, p) for p in range(WORKERS[0])], 1)

    outcomes = Counter(outcome for outcomes in found for outcome in outcomes)
    assert outcomes == {"reserved": 1, "refused": RACES - 1}
    ledger = Ledger(FolderStore(nearly_spent), "hospital-a")
    assert Counter(kinds(ledger)[before:]) == {"reserve": 1, "refuse": RACES - 1}
    assert epsilon(ledger.spent_events(), DELTA) <= BUDGET.epsilon


def test_a_race_of_many_runs_that_fit_loses_none(tmp_path: Path) -> None:
    """Two requests that both fit are both granted, whichever was first."""
    folder = tmp_path / "raced"
    event = gaussian(0.1)

    def work(worker: int) -> None:
        ledger = Ledger(FolderStore(folder), "hospital-a")
        for attempt in range(5):
            run = f"w{worker}-{attempt}"
            reserve(ledger, run, event, 0.1)
            ledger.settle(run, [part(event, worker)])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))

    ledger = Ledger(FolderStore(folder), "hospital-a")
    assert Counter(kinds(ledger)) == {"reserve": 40, "settle": 40}
    assert sum(e.steps for e in ledger.spent_events()) == 5 * sum(range(8))


def test_racing_for_one_run_makes_one_reservation(tmp_path: Path) -> None:
    """Two processes of the hospital answer for the same run."""
    folder = tmp_path / "raced"

    def work(_: int) -> None:
        reserve(Ledger(FolderStore(folder), "hospital-a"), "r1", gaussian(2.0), 2.0)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(16)))
    assert kinds(Ledger(FolderStore(folder), "hospital-a")) == ["reserve"]


@pytest.mark.services
def test_threads_race_for_the_last_epsilon_on_s3(make_bucket: Callable[[], str]) -> None:
    bucket = make_bucket()
    S3Store(bucket).list()

    def work(worker: int) -> str:
        try:
            reserve(Ledger(S3Store(bucket), "hospital-a"), f"r{worker}", gaussian(2.5), 2.5)
        except BudgetExceededError:
            return "refused"
        return "reserved"

    with ThreadPoolExecutor(6) as pool:
        outcomes = Counter(pool.map(work, range(12)))

    ledger = Ledger(S3Store(bucket), "hospital-a")
    assert outcomes == {"reserved": 1, "refused": 11}
    assert Counter(kinds(ledger)) == {"reserve": 1, "refuse": 11}
    assert epsilon(ledger.spent_events(), DELTA) <= BUDGET.epsilon

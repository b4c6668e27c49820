"""The ledger: what it lets through, whatever happens at the same time, and what it notices."""

from __future__ import annotations

import hashlib
import json
import math
import multiprocessing
import shutil
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fl_assets.consortium import PrivacyBudget
from fl_assets.errors import BadDataError
from fl_assets.privacy.accounting import epsilon, noise_multiplier
from fl_assets.privacy.events import MechanismEvent
from fl_assets.privacy.ledger import BudgetExceededError, Ledger, UnprotectedRunError
from fl_assets.privacy.ledger_balance import NoReservationError, OtherEventsError, RunClosedError
from fl_assets.privacy.ledger_chain import ANCHOR, LedgerDamagedError, entry_key
from fl_assets.privacy.ledger_entries import LedgerHead
from fl_assets.storage import FolderStore, SiteStore
from fl_assets.storage.s3 import S3Store

DELTA = 1e-5
BUDGET = PrivacyBudget(epsilon=3.0, delta=DELTA)
STEPS = 60


def gaussian(asked: float, steps: int = STEPS) -> MechanismEvent:
    """Steps without sampling that cost so much epsilon in all."""
    noise = noise_multiplier(asked, DELTA, 1.0, steps)
    return MechanismEvent(noise_multiplier=noise, steps=steps)


ONE = gaussian(1.0)


def part(event: MechanismEvent, steps: int) -> MechanismEvent:
    return event.model_copy(update={"steps": steps})


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "hospital")


@pytest.fixture
def ledger(store: FolderStore) -> Ledger:
    return Ledger(store, "hospital-a")


def reserve(ledger: Ledger, run: str, event: MechanismEvent = ONE, asked: float = 1.0) -> None:
    ledger.reserve(run, [event], BUDGET, asked, "training")


def kinds(ledger: Ledger) -> list[str]:
    return [entry.act.kind for entry in ledger.entries()]


class TestWhatIsCharged:
    def test_an_empty_ledger(self, ledger: Ledger, store: FolderStore) -> None:
        assert ledger.entries() == ()
        assert ledger.head() is None
        assert ledger.spent_events() == ()
        assert store.list() == []

    def test_an_open_reservation_counts_in_full_and_a_settled_one_by_its_steps(
        self, ledger: Ledger
    ) -> None:
        reserve(ledger, "r1")
        assert ledger.spent_events() == (ONE,)
        ledger.settle("r1", [part(ONE, 20)])
        assert ledger.spent_events() == (part(ONE, 20),)
        reserve(ledger, "r2")
        ledger.settle("r2", [part(ONE, 0)])
        assert ledger.spent_events() == (part(ONE, 20),)
        assert kinds(ledger) == ["reserve", "settle", "reserve", "settle"]

    def test_a_forfeit_and_a_charge_count_in_full(self, ledger: Ledger) -> None:
        reserve(ledger, "r1")
        ledger.forfeit("r1", "the disk burnt")
        noised = MechanismEvent(noise_multiplier=30.0)
        for _ in range(2):
            ledger.charge("profile", [noised], BUDGET, 0.1, "a noised profile")
        assert ledger.spent_events() == (ONE, noised, noised)
        assert kinds(ledger) == ["reserve", "forfeit", "charge", "charge"]

    def test_entries_are_chained_dated_and_numbered(
        self, ledger: Ledger, store: FolderStore
    ) -> None:
        before = datetime.now(UTC)
        reserve(ledger, "r1")
        ledger.settle("r1", [ONE])
        first, second = ledger.entries()
        head = ledger.head()
        assert (first.sequence, second.sequence) == (1, 2)
        assert first.previous == "0" * 64
        assert head is not None
        assert second.previous == json.loads(store.get(entry_key(2)))["previous"]
        assert head.sequence == 2
        assert before <= first.time <= second.time <= datetime.now(UTC)
        assert first.time.utcoffset() is not None
        assert [info.key for info in store.list()] == [ANCHOR, entry_key(1), entry_key(2)]
        assert LedgerHead.model_validate_json(store.get(ANCHOR)) == head

    def test_runs_are_composed_as_mechanisms_until_the_cap(self, ledger: Ledger) -> None:
        """Retraining: sums of epsilons would stop after three runs."""
        trained = 0
        while epsilon((*ledger.spent_events(), ONE), DELTA) <= 3.0:
            reserve(ledger, f"r{trained}")
            ledger.settle(f"r{trained}", [ONE])
            trained += 1
        assert trained == 7
        with pytest.raises(BudgetExceededError):
            reserve(ledger, "one more")
        assert epsilon(ledger.spent_events(), DELTA) <= 3.0

    def test_exactly_what_is_left_may_be_asked_for(self, ledger: Ledger) -> None:
        whole = gaussian(3.0)
        reserve(ledger, "all of it", whole, 3.0)
        assert epsilon(ledger.spent_events(), DELTA) == pytest.approx(3.0, rel=1e-6)


class TestARunThatGoesOn:
    def test_it_takes_its_reservation_up_again(self, ledger: Ledger, store: FolderStore) -> None:
        for _ in range(3):
            reserve(Ledger(store, "hospital-a"), "r1", gaussian(2.9), 2.9)
        assert kinds(ledger) == ["reserve"]

    def test_with_other_events_it_is_refused(self, ledger: Ledger) -> None:
        reserve(ledger, "r1")
        with pytest.raises(OtherEventsError, match="run r1 reserved 60 steps with noise"):
            reserve(ledger, "r1", part(ONE, STEPS + 1))
        assert kinds(ledger) == ["reserve"]

    def test_a_closed_one_is_refused(self, ledger: Ledger) -> None:
        reserve(ledger, "r1")
        ledger.settle("r1", [ONE])
        reserve(ledger, "r2")
        ledger.forfeit("r2", "lost")
        for run in ("r1", "r2"):
            with pytest.raises(RunClosedError, match=f"run {run} is closed in the ledger"):
                reserve(ledger, run)
        assert len(ledger.entries()) == 4

    def test_closing_twice_is_closing_once(self, ledger: Ledger) -> None:
        reserve(ledger, "r1")
        reserve(ledger, "r2")
        for _ in range(2):
            ledger.settle("r1", [part(ONE, 3)])
            ledger.forfeit("r2", "lost")
        assert kinds(ledger) == ["reserve", "reserve", "settle", "forfeit"]
        with pytest.raises(RunClosedError):
            ledger.settle("r1", [part(ONE, 2)])
        with pytest.raises(RunClosedError):
            ledger.forfeit("r1", "late")

    @pytest.mark.parametrize(
        "released",
        [
            [],
            [ONE, ONE],
            [part(ONE, STEPS + 1)],
            [ONE.model_copy(update={"noise_multiplier": 99.0})],
            [ONE.model_copy(update={"sampling_rate": 0.1})],
        ],
        ids=["nothing", "an event more", "a step more", "more noise", "fewer rows"],
    )
    def test_only_what_was_reserved_can_be_settled(
        self, ledger: Ledger, released: list[MechanismEvent]
    ) -> None:
        reserve(ledger, "r1")
        with pytest.raises(OtherEventsError):
            ledger.settle("r1", released)
        assert ledger.spent_events() == (ONE,)

    def test_a_run_that_never_reserved_cannot_be_closed(self, ledger: Ledger) -> None:
        with pytest.raises(NoReservationError, match="run r9 has no reservation"):
            ledger.settle("r9", [ONE])
        with pytest.raises(NoReservationError):
            ledger.forfeit("r9", "lost")
        assert ledger.entries() == ()


class TestRefusals:
    def test_the_arithmetic_is_told_and_noted(self, ledger: Ledger) -> None:
        reserve(ledger, "r1", gaussian(2.8), 2.8)
        with pytest.raises(BudgetExceededError) as refused:
            reserve(ledger, "r2")
        found = refused.value.arithmetic
        assert found.lifetime == pytest.approx(epsilon([gaussian(2.8), ONE], DELTA))
        shown = math.ceil(found.lifetime * 100) / 100
        left = math.floor(found.left * 100) / 100
        assert str(refused.value) == (
            f"hospital-a: run r2 asks 1.00, lifetime would be {shown:.2f} of 3.00, {left:.2f} left "
            "at delta 1e-05; train with a smaller epsilon, or ask the hospital's data-protection "
            "officer to raise privacy_budget in consortium.yaml"
        )
        assert isinstance(refused.value, BadDataError)
        noted = ledger.entries()[-1].act
        assert (noted.kind, noted.run) == ("refuse", "r2")
        assert noted == noted.model_copy(update={"arithmetic": found})
        assert ledger.spent_events() == (gaussian(2.8),)

    def test_what_is_said_to_be_left_can_be_had_and_more_cannot(self, ledger: Ledger) -> None:
        reserve(ledger, "r1", gaussian(2.5), 2.5)
        with pytest.raises(BudgetExceededError) as refused:
            ledger.charge("r2", [gaussian(2.0, 1)], BUDGET, 2.0, "a profile")
        left = refused.value.arithmetic.left
        assert left > 1.0
        with pytest.raises(BudgetExceededError):
            reserve(ledger, "r3", gaussian(left + 0.02), left + 0.02)
        reserve(ledger, "r4", gaussian(left - 0.02), left - 0.02)

    def test_what_is_too_much_never_looks_as_if_it_fitted(self, ledger: Ledger) -> None:
        reserve(ledger, "r1", gaussian(2.0), 2.0)
        event = gaussian(2.5)
        while epsilon([gaussian(2.0), event], DELTA) > 3.0001:
            # Towards the largest request that fits, from above.
            event = event.model_copy(update={"noise_multiplier": event.noise_multiplier * 1.0001})
        with pytest.raises(BudgetExceededError, match=r"would be 3\.01 of 3\.00"):
            reserve(ledger, "r2", event, 2.1)

    def test_a_retry_is_not_noted_again_until_something_changed(self, ledger: Ledger) -> None:
        reserve(ledger, "r1", gaussian(2.8), 2.8)
        for _ in range(3):
            with pytest.raises(BudgetExceededError):
                reserve(ledger, "r2")
        assert kinds(ledger) == ["reserve", "refuse"]
        ledger.charge("profile", [MechanismEvent(noise_multiplier=100.0)], BUDGET, 0.1, "profile")
        with pytest.raises(BudgetExceededError):
            reserve(ledger, "r2")
        assert kinds(ledger) == ["reserve", "refuse", "charge", "refuse"]

    def test_a_raised_cap_lets_the_run_through(self, ledger: Ledger) -> None:
        reserve(ledger, "r1", gaussian(2.8), 2.8)
        with pytest.raises(BudgetExceededError):
            reserve(ledger, "r2")
        raised = BUDGET.model_copy(update={"epsilon": 4.0})
        ledger.reserve("r2", [ONE], raised, 1.0, "training")
        assert kinds(ledger) == ["reserve", "refuse", "reserve"]

    def test_a_smaller_delta_of_the_budget_makes_the_same_run_cost_more(
        self, ledger: Ledger
    ) -> None:
        strict = PrivacyBudget(epsilon=3.0, delta=1e-7)
        with pytest.raises(BudgetExceededError, match="at delta 1e-07"):
            ledger.reserve("r1", [gaussian(3.0)], strict, 3.0, "training")

    def test_unprotected_runs(self, ledger: Ledger) -> None:
        open_house = PrivacyBudget(unprotected_runs=True)
        for _ in range(2):
            ledger.unprotected("r1", open_house)
        ledger.unprotected("r2", open_house)
        with pytest.raises(UnprotectedRunError, match="hospital-a: run r3 asks for no privacy"):
            ledger.unprotected("r3", PrivacyBudget())
        assert kinds(ledger) == ["unprotected", "unprotected", "refuse"]
        assert ledger.spent_events() == ()


# Damage ------------------------------------------------------------------------------------------


def fill(store: SiteStore, runs: int = 3) -> LedgerHead:
    """Two entries per run, going on with what is there; returns the head."""
    ledger = Ledger(store, "hospital-a")
    event = gaussian(0.2)
    for run in (f"r{number}" for number in range(runs)):
        known = ledger.account(run)
        if known is None or not known.closed:
            reserve(ledger, run, event, 0.2)
            ledger.settle(run, [part(event, 10)])
    head = ledger.head()
    assert head is not None
    return head


def path(store: FolderStore, key: str) -> Path:
    return Path(store.uri.removeprefix("file://")) / key


def refuses_everything(store: SiteStore, *witnesses: LedgerHead, match: str) -> None:
    before = [(info.key, info.version) for info in store.list()]
    calls: list[Callable[[Ledger], object]] = [
        lambda ledger: ledger.entries(),
        lambda ledger: ledger.head(),
        lambda ledger: ledger.spent_events(),
        lambda ledger: reserve(ledger, "new"),
        lambda ledger: ledger.charge("new", [ONE], BUDGET, 1.0, "profile"),
        lambda ledger: ledger.settle("r0", [part(ONE, 10)]),
        lambda ledger: ledger.unprotected("new", PrivacyBudget(unprotected_runs=True)),
    ]
    for call in calls:
        with pytest.raises(LedgerDamagedError, match=match):
            call(Ledger(store, "hospital-a", witnesses))
    once = Ledger(store, "hospital-a", witnesses)
    for call in calls:
        with pytest.raises(LedgerDamagedError, match="hospital-a: the privacy ledger is damaged"):
            call(once)
    assert [(info.key, info.version) for info in store.list()] == before


class TestDamage:
    @pytest.mark.parametrize("number", range(1, 7))
    def test_an_edited_entry(self, store: FolderStore, number: int) -> None:
        fill(store)
        file = path(store, entry_key(number))
        file.write_text(file.read_text().replace('"steps":60', '"steps":6').replace("10}", "1}"))
        wrong = number + 1 if number < 6 else 6
        refuses_everything(store, match=f"ledger/00000{wrong}.json")

    @pytest.mark.parametrize("number", [1, 3, 6])
    @pytest.mark.parametrize("data", [b"", b"{", b'{"sequence": 1}', b"\xff"])
    def test_one_that_cannot_be_read(self, store: FolderStore, number: int, data: bytes) -> None:
        fill(store)
        path(store, entry_key(number)).write_bytes(data)
        refuses_everything(store, match=f"ledger/00000{number}.json cannot be read")

    def test_an_edit_that_repairs_every_hash_after_it(self, store: FolderStore) -> None:
        """Whoever can write can also compute hashes; the head that was seen tells."""
        fill(store)
        rewrite(store, lambda act: act | ({"events": []} if act["kind"] == "reserve" else {}))
        refuses_everything(store, match="it was edited or rolled back and written on")

    @pytest.mark.parametrize("left", range(6))
    def test_one_that_was_cut(self, store: FolderStore, left: int) -> None:
        fill(store)
        for number in range(left + 1, 7):
            path(store, entry_key(number)).unlink()
        refuses_everything(store, match=f"says 6 entries, {left} are there: it was cut or rolled")

    @pytest.mark.parametrize("left", range(6))
    def test_one_that_was_cut_with_its_anchor_but_not_its_history(
        self, store: FolderStore, left: int
    ) -> None:
        """As in S3, deleting through the store keeps the versions."""
        fill(store)
        for number in range(left + 1, 7):
            store.delete(entry_key(number))
        path(store, ANCHOR).unlink()
        refuses_everything(store, match=f"ledger/00000{left + 1}.json was there and is gone")

    @pytest.mark.parametrize("number", [1, 3, 5])
    @pytest.mark.parametrize("anchor", [True, False])
    def test_a_gap(self, store: FolderStore, number: int, anchor: bool) -> None:
        fill(store)
        path(store, entry_key(number)).unlink()
        if not anchor:
            path(store, ANCHOR).unlink()
        refuses_everything(store, match=f"ledger/00000{number}.json is missing")

    @pytest.mark.parametrize(("a", "b"), [(1, 2), (2, 5), (5, 6)])
    def test_reordered(self, store: FolderStore, a: int, b: int) -> None:
        fill(store)
        first, second = path(store, entry_key(a)), path(store, entry_key(b))
        texts = first.read_bytes(), second.read_bytes()
        first.write_bytes(texts[1])
        second.write_bytes(texts[0])
        refuses_everything(store, match=f"ledger/00000{a}.json holds entry {b}")

    def test_reordered_and_renumbered(self, store: FolderStore) -> None:
        fill(store)
        path(store, ANCHOR).unlink()
        files = [path(store, entry_key(n)) for n in (2, 4)]
        acts = [json.loads(file.read_text()) for file in files]
        for file, own, other in zip(files, acts, acts[::-1], strict=True):
            file.write_text(json.dumps(own | {"act": other["act"]}))
        refuses_everything(store, match=r"ledger/000003\.json does not follow the entry before it")

    @pytest.mark.parametrize("name", ["000008.json", "copy.json", "000001 (1).json"])
    def test_an_object_beside_the_chain(self, store: FolderStore, name: str) -> None:
        fill(store)
        path(store, f"ledger/{name}").write_bytes(b"{}")
        refuses_everything(store, match=rf"ledger/{name}".replace("(", r"\(").replace(")", r"\)"))

    def test_the_folder_restored_from_an_earlier_copy(self, store: FolderStore) -> None:
        fill(store, 1)
        folder = path(store, "ledger")
        shutil.copytree(folder, folder.parent / "copy")
        fill(store, 3)
        shutil.rmtree(folder)
        (folder.parent / "copy").rename(folder)
        refuses_everything(store, match="says 6 entries, 2 are there")

    def test_the_folder_restored_and_written_on_to_the_same_length(
        self, store: FolderStore
    ) -> None:
        """By somebody who has no ledger of this kind that would look at the anchor."""
        fill(store, 1)
        folder = path(store, "ledger")
        shutil.copytree(folder, folder.parent / "copy")
        fill(store, 3)
        anchor = path(store, ANCHOR).read_bytes()
        shutil.rmtree(folder)
        (folder.parent / "copy").rename(folder)
        path(store, ANCHOR).write_text(head_of(store, 2).model_dump_json())
        for number in range(8, 10):
            reserve(Ledger(store, "hospital-a"), f"r{number}", gaussian(0.1), 0.1)
            Ledger(store, "hospital-a").forfeit(f"r{number}", "lost")
        path(store, ANCHOR).write_bytes(anchor)
        refuses_everything(store, match="is not the entry that ledger-anchor.json says")

    def test_the_bucket_restored_with_a_witness_outside(self, store: FolderStore) -> None:
        """Nothing inside the bucket can tell; that is what witnesses are for."""
        early = fill(store, 1)
        root = path(store, "")
        shutil.copytree(root, root.parent / "copy")
        late = fill(store, 3)
        shutil.rmtree(root)
        (root.parent / "copy").rename(root)
        assert Ledger(store, "hospital-a").head() == early
        assert Ledger(store, "hospital-a", [early]).head() == early
        refuses_everything(store, early, late, match="the coordinator saw 6 entries, 2 are there")

    def test_the_bucket_restored_and_written_on(self, store: FolderStore) -> None:
        fill(store, 1)
        root = path(store, "")
        shutil.copytree(root, root.parent / "copy")
        late = fill(store, 2)
        shutil.rmtree(root)
        (root.parent / "copy").rename(root)
        ledger = Ledger(store, "hospital-a")
        for run in ("r7", "r8"):
            reserve(ledger, run, gaussian(0.3), 0.3)
        refuses_everything(store, late, match="is not the entry that the coordinator saw")

    @pytest.mark.parametrize("seen", ["anchor", "witness"])
    def test_a_ledger_that_is_gone(self, store: FolderStore, seen: str) -> None:
        head = fill(store)
        shutil.rmtree(path(store, "ledger"))
        if seen == "witness":
            path(store, ANCHOR).unlink()
        witnesses = [head] if seen == "witness" else []
        refuses_everything(store, *witnesses, match="6 entries, 0 are there")

    def test_an_anchor_that_is_gone(self, store: FolderStore) -> None:
        fill(store)
        path(store, ANCHOR).unlink()
        refuses_everything(store, match="ledger-anchor.json is gone")

    @pytest.mark.parametrize("data", [b"", b"{}", b'{"sequence": 0, "digest": "x"}'])
    def test_an_anchor_that_cannot_be_read(self, store: FolderStore, data: bytes) -> None:
        fill(store)
        path(store, ANCHOR).write_bytes(data)
        refuses_everything(store, match="ledger-anchor.json cannot be read")

    def test_a_wrong_witness_can_only_refuse(self, store: FolderStore) -> None:
        head = fill(store)
        for wrong in (
            LedgerHead(sequence=6, digest="0" * 64),
            LedgerHead(sequence=7, digest=head.digest),
            LedgerHead(sequence=2, digest=head.digest),
        ):
            refuses_everything(store, head, wrong, match="the coordinator saw")

    def test_entries_that_cannot_follow_each_other(self, store: FolderStore) -> None:
        """Chained all right, by somebody who knows how, and yet no ledger writes them."""
        fill(store)
        rewrite(store, lambda act: act | ({"run": "r9"} if act["kind"] == "settle" else {}))
        path(store, ANCHOR).write_text(head_of(store, 6).model_dump_json())
        refuses_everything(store, match="entry 2 is unlawful: run r9 has no reservation")

    def test_a_change_under_an_open_ledger(self, store: FolderStore) -> None:
        fill(store)
        ledger = Ledger(store, "hospital-a")
        assert len(ledger.entries()) == 6
        path(store, entry_key(6)).unlink()
        with pytest.raises(LedgerDamagedError, match=r"ledger/000006\.json was there and is gone"):
            reserve(ledger, "new")

    def test_restoring_what_was_there_is_the_cure(self, store: FolderStore) -> None:
        head = fill(store)
        file = path(store, entry_key(3))
        good = file.read_bytes()
        file.write_bytes(good.replace(b"r1", b"r2"))
        with pytest.raises(LedgerDamagedError):
            Ledger(store, "hospital-a").head()
        file.write_bytes(good)
        assert Ledger(store, "hospital-a", [head]).head() == head


def head_of(store: FolderStore, number: int) -> LedgerHead:
    digest = hashlib.sha256(store.get(entry_key(number))).hexdigest()
    return LedgerHead(sequence=number, digest=digest)


def rewrite(store: FolderStore, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Change the acts and compute every hash anew; this is written without the ledger's code."""
    previous = "0" * 64
    for number in range(1, 7):
        file = path(store, entry_key(number))
        entry = json.loads(file.read_text())
        file.write_text(json.dumps(entry | {"previous": previous, "act": change(entry["act"])}))
        previous = head_of(store, number).digest


# Crashes and races -------------------------------------------------------------------------------


class Killed(BaseException):
    """What nobody catches."""


class DyingStore(FolderStore):
    """Dies instead of its n-th write."""

    writes_left = 10**9

    def _count(self) -> None:
        self.writes_left -= 1
        if self.writes_left < 0:
            raise Killed

    def put(self, key: str, data: bytes) -> Any:
        self._count()
        return super().put(key, data)

    def put_if_absent(self, key: str, data: bytes) -> Any:
        self._count()
        return super().put_if_absent(key, data)


@pytest.mark.faults
@pytest.mark.parametrize("deaths", [1, 3])
def test_dying_at_any_write_leaves_a_whole_ledger(tmp_path: Path, deaths: int) -> None:
    """Also where it dies again and again between an entry and its anchor."""
    for place in range(8):
        store = DyingStore(tmp_path / f"{deaths}-{place}")
        for attempt in range(deaths):
            store.writes_left = place if not attempt else 1
            with pytest.raises(Killed):
                fill(store)
        store.writes_left = 10**9
        fill(store)
        assert kinds(Ledger(store, "hospital-a")) == ["reserve", "settle"] * 3
        head = fill(store, 4)
        assert Ledger(store, "hospital-a").head() == head
        assert LedgerHead.model_validate_json(store.get(ANCHOR)) == head


RACES = 1000
WORKERS = (3, 4)
"""Processes, and threads in each."""
SMALL = gaussian(0.5)


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


@pytest.mark.services
def test_a_cut_ledger_on_s3(make_bucket: Callable[[], str]) -> None:
    """S3 would let the next number be taken again: its history tells that it was there."""
    store = S3Store(make_bucket())
    fill(store, 1)
    for key in (entry_key(2), ANCHOR):
        store.delete(key)
    refuses_everything(store, match=r"ledger/000002\.json was there and is gone")

"""The ledger: what it lets through, and what it says."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fl_assets.consortium import PrivacyBudget
from fl_assets.errors import BadDataError
from fl_assets.privacy.accounting import epsilon
from fl_assets.privacy.events import MechanismEvent
from fl_assets.privacy.ledger import BudgetExceededError, Ledger, UnprotectedRunError
from fl_assets.privacy.ledger_balance import NoReservationError, OtherEventsError, RunClosedError
from fl_assets.privacy.ledger_chain import ANCHOR, entry_key
from fl_assets.privacy.ledger_entries import LedgerHead
from fl_assets.storage import FolderStore
from fl_assets_tests.privacy.ledgers import (
    BUDGET,
    DELTA,
    ONE,
    STEPS,
    gaussian,
    kinds,
    part,
    reserve,
)


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "hospital")


@pytest.fixture
def ledger(store: FolderStore) -> Ledger:
    return Ledger(store, "hospital-a")


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
            "at delta 1e-05; ask for a smaller epsilon, or have the hospital's data-protection "
            "officer raise privacy_budget in consortium.yaml"
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

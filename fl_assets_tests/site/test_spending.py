"""A hospital's budget in one run: what left is always on record, and nothing is paid twice."""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fl_assets.consortium import PrivacyBudget
from fl_assets.privacy.accounting import epsilon, noise_multiplier
from fl_assets.privacy.configs import PrivacyConfig
from fl_assets.privacy.ledger import BudgetExceededError, Ledger, UnprotectedRunError
from fl_assets.privacy.ledger_balance import NoReservationError, OtherEventsError, RunClosedError
from fl_assets.privacy.ledger_chain import LedgerDamagedError
from fl_assets.privacy.ledger_entries import LedgerHead
from fl_assets.site.client_state import ClientState, Phase
from fl_assets.site.deletion import delete_data
from fl_assets.site.egress import EgressLog
from fl_assets.site.spending import (
    Answer,
    AnswersLostError,
    OtherWeightsError,
    RoundNotReservedError,
    RunSpending,
    settle_interrupted,
)
from fl_assets.storage import FolderStore
from fl_assets_tests.file_uses import die_at_file_use

BUDGET = PrivacyBudget(epsilon=3.0)
PRIVACY = PrivacyConfig(epsilon=1.0, steps=2)
ROUNDS = 5


def opened(
    store: FolderStore,
    run: str = "r1",
    privacy: PrivacyConfig | None = PRIVACY,
    rounds: int = ROUNDS,
    budget: PrivacyBudget = BUDGET,
) -> RunSpending:
    return RunSpending.open(
        store, "hospital-a", run=run, privacy=privacy, rounds=rounds, budget=budget
    )


def weights(round_: int) -> bytes:
    """Digest of what the server sent."""
    return hashlib.sha256(f"round {round_}".encode()).digest()


def noised() -> Answer:
    """Never the same twice, as true noise."""
    fresh = np.random.default_rng()
    arrays = {
        "linear.weight": fresh.normal(size=(1, 3)).astype(np.float32),
        "linear.bias": fresh.normal(size=1).astype(np.float32),
    }
    return Answer(arrays, examples=417)


def bits(answer: Answer) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    return {n: (str(a.dtype), a.shape, a.tobytes()) for n, a in answer.arrays.items()}


def fail() -> Answer:
    raise AssertionError("no new answer may be made")


def spent_steps(store: FolderStore) -> int:
    return sum(event.steps for event in Ledger(store, "hospital-a").spent_events())


def kinds(store: FolderStore) -> list[str]:
    return [entry.act.kind for entry in Ledger(store, "hospital-a").entries()]


class TestOpening:
    def test_every_step_of_every_round_is_reserved_at_the_total_epsilon(
        self, store: FolderStore
    ) -> None:
        spending = opened(store)
        assert spending.event is not None
        assert spending.event.steps == ROUNDS * PRIVACY.steps
        assert Ledger(store, "hospital-a").spent_events() == (spending.event,)
        assert 0.99 < epsilon([spending.event], PRIVACY.delta) <= 1.0

    def test_sampling_is_part_of_it(self, store: FolderStore) -> None:
        sampled = opened(store, privacy=PRIVACY.model_copy(update={"sampling_rate": 0.25}))
        assert sampled.event is not None
        assert sampled.event.sampling_rate == 0.25
        assert sampled.event.noise_multiplier < noise_multiplier(1.0, 1e-5, 1.0, 10)

    def test_a_run_that_does_not_fit_is_refused_and_noted(self, store: FolderStore) -> None:
        opened(store, "r1", PRIVACY.model_copy(update={"epsilon": 2.9}))
        with pytest.raises(BudgetExceededError, match=r"hospital-a: run r2 asks 1\.00, lifetime"):
            opened(store, "r2")
        assert kinds(store) == ["reserve", "refuse"]

    def test_other_privacy_under_the_same_name_is_refused(self, store: FolderStore) -> None:
        opened(store).close()
        opened(store, "r2")
        for run in ("r1", "r2"):
            with pytest.raises(OtherEventsError, match=f"run {run} reserved 10 steps"):
                opened(store, run, rounds=ROUNDS + 1)

    def test_a_witness_is_heeded(self, store: FolderStore) -> None:
        witness = LedgerHead(sequence=7, digest="0" * 64)
        with pytest.raises(LedgerDamagedError):
            RunSpending.open(
                store,
                "hospital-a",
                run="r1",
                privacy=PRIVACY,
                rounds=1,
                budget=BUDGET,
                witnesses=[witness],
            )
        balance, head = opened(store).standing()
        assert head == Ledger(store, "hospital-a").head()
        assert balance.open_runs == ["r1"]

    def test_without_privacy_nothing_is_kept_but_a_note(self, store: FolderStore) -> None:
        allowed = PrivacyBudget(unprotected_runs=True)
        for _ in range(2):
            spending = opened(store, privacy=None, budget=allowed)
            assert spending.event is None
            first, second = (spending.answer(1, weights(1), noised) for _ in range(2))
            assert bits(first) != bits(second)
            spending.close()
        assert kinds(store) == ["unprotected"]
        assert store.list("answers/") == []
        with pytest.raises(UnprotectedRunError):
            opened(store, "r2", privacy=None)


class TestAnswers:
    def test_a_round_that_is_asked_again_gets_the_same_bytes(self, store: FolderStore) -> None:
        first = opened(store).answer(1, weights(1), noised)
        again = opened(store).answer(1, weights(1), fail)
        assert bits(again) == bits(first)
        assert again.examples == first.examples == 417

    def test_from_other_weights_it_is_refused(self, store: FolderStore) -> None:
        spending = opened(store)
        spending.answer(1, weights(1), noised)
        with pytest.raises(OtherWeightsError, match="answered round 1 of run r1 from other weight"):
            spending.answer(1, weights(9), fail)

    @pytest.mark.parametrize("round_", [-1, 0, ROUNDS + 1])
    def test_a_round_that_was_not_reserved_is_refused(
        self, store: FolderStore, round_: int
    ) -> None:
        with pytest.raises(
            RoundNotReservedError, match=f"rounds 1 to 5 of run r1, not .* {round_}"
        ):
            opened(store).answer(round_, weights(1), fail)

    def test_one_that_could_not_be_stored_does_not_leave(
        self, store: FolderStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        spending = opened(store)

        def full(*_: object) -> None:
            raise OSError("no space")

        monkeypatch.setattr(store, "put_if_absent", full)
        with pytest.raises(OSError, match="no space"):
            spending.answer(1, weights(1), noised)

    def test_of_two_processes_both_give_what_the_first_stored(self, store: FolderStore) -> None:
        other = opened(store)
        theirs = []

        def make() -> Answer:
            theirs.append(other.answer(1, weights(1), noised))
            return noised()

        ours = opened(store).answer(1, weights(1), make)
        assert bits(ours) == bits(theirs[0])

    def test_a_race_from_other_weights_lets_one_answer_out(self, store: FolderStore) -> None:
        other = opened(store)

        def make() -> Answer:
            other.answer(1, weights(9), noised)
            return noised()

        with pytest.raises(OtherWeightsError):
            opened(store).answer(1, weights(1), make)

    def test_the_states_of_local_layers_are_not_disturbed(self, store: FolderStore) -> None:
        state = ClientState(store, "r1", rounds=2)
        spending = opened(store)
        spending.answer(1, weights(1), noised)
        state.keep(Phase.TRAINING, 1, {"w": np.ones(2, dtype=np.float32)})
        state.clear()
        spending.answer(1, weights(1), fail)


class TestClosing:
    @pytest.mark.parametrize("rounds", [[], [1], [2, 5], [1, 2, 3, 4, 5]])
    def test_it_settles_by_the_rounds_that_were_answered(
        self, store: FolderStore, rounds: list[int]
    ) -> None:
        spending = opened(store)
        for round_ in rounds:
            for _ in range(2):
                spending.answer(round_, weights(round_), noised)
        for _ in range(2):
            spending.close()
            opened(store).close()
        assert kinds(store) == ["reserve", "settle"]
        assert spent_steps(store) == len(rounds) * PRIVACY.steps
        assert store.list("answers/r1/rounds/") == []

    def test_a_closed_run_can_be_opened_and_answers_nothing(self, store: FolderStore) -> None:
        """The server may ask the last evaluation again; nothing new is released by it."""
        spending = opened(store)
        spending.answer(1, weights(1), noised)
        spending.close()
        for one in (spending, opened(store)):
            with pytest.raises(RunClosedError, match="run r1 is closed"):
                one.answer(1, weights(1), fail)
            with pytest.raises(RunClosedError):
                one.answer(2, weights(2), fail)
        assert kinds(store) == ["reserve", "settle"]

    def test_an_answer_that_races_with_the_closing_does_not_leave_uncounted(
        self, store: FolderStore
    ) -> None:
        other = opened(store)

        def make() -> Answer:
            other.close()
            return noised()

        with pytest.raises(RunClosedError):
            opened(store).answer(1, weights(1), make)
        assert spent_steps(store) == 0

    def test_one_that_was_stored_before_the_closing_counted_is_counted(
        self, store: FolderStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Stored after the closing set its mark and before it counted: paid, and not released."""
        closing = opened(store)
        late = opened(FolderStore(Path(store.uri.removeprefix("file://"))))
        listed = store.list

        def answer_first(prefix: str = "") -> object:
            if prefix.endswith("rounds/") and not listed(prefix):
                with pytest.raises(RunClosedError):
                    late._answers.check_open()
                monkeypatch.setattr(late._answers, "check_open", check_once_blind())
                with pytest.raises(RunClosedError):
                    late.answer(1, weights(1), noised)
            return listed(prefix)

        def check_once_blind() -> Callable[[], None]:
            check = late._answers.check_open
            calls = iter([lambda: None, check])
            return lambda: next(calls)()

        monkeypatch.setattr(store, "list", answer_first)
        closing.close()
        assert spent_steps(store) == PRIVACY.steps


class TestSettlingAnInterruptedRun:
    def leave(self, store: FolderStore, *rounds: int, run: str = "r1") -> None:
        spending, log = opened(store, run), EgressLog(store)
        for round_ in rounds:
            answer = spending.answer(round_, weights(round_), noised)
            log.release("update", run, answer.arrays["linear.bias"].tobytes(), f"round {round_}")

    def test_by_what_is_stored(self, store: FolderStore) -> None:
        self.leave(store, 1, 2, 3)
        self.leave(store, 1, run="r2")
        # Sent again after a restart of the server.
        self.leave(store, 3)
        said = settle_interrupted(store, "hospital-a", "r1")
        assert said == "settled 6 of 10 reserved steps"
        assert spent_steps(store) == 6 + 10
        with pytest.raises(RunClosedError):
            opened(store).answer(4, weights(4), fail)

    def test_an_answer_that_may_not_have_left_counts(self, store: FolderStore) -> None:
        opened(store).answer(1, weights(1), noised)
        settle_interrupted(store, "hospital-a", "r1")
        assert spent_steps(store) == PRIVACY.steps

    def test_one_that_answered_nothing_gets_all_of_it_back(self, store: FolderStore) -> None:
        opened(store)
        settle_interrupted(store, "hospital-a", "r1")
        assert spent_steps(store) == 0

    @pytest.mark.parametrize("lost", [1, 3])
    def test_answers_that_left_and_are_gone_forfeit_everything(
        self, store: FolderStore, lost: int
    ) -> None:
        self.leave(store, 1, 2, 3)
        for info in store.list("answers/r1/")[:lost]:
            store.delete(info.key)
        said = settle_interrupted(store, "hospital-a", "r1")
        reason = f"3 updates have left, and of {lost} the answers are gone"
        assert said == f"forfeited all 10 steps: {reason}"
        assert spent_steps(store) == 10
        assert kinds(store) == ["reserve", "forfeit"]

    @pytest.mark.parametrize("restarted", [True, False])
    def test_one_that_left_and_is_gone_is_not_given_with_other_noise(
        self, store: FolderStore, restarted: bool
    ) -> None:
        spending, log = opened(store), EgressLog(store)
        for round_ in (1, 2):
            answer = spending.answer(round_, weights(round_), noised)
            log.release("update", "r1", answer.arrays["linear.bias"].tobytes(), f"round {round_}")
        store.purge("answers/r1/rounds/000002.npz")
        if restarted:
            spending = opened(store)
        with pytest.raises(AnswersLostError, match="answered round 2 of run r1, and the answer is"):
            spending.answer(2, weights(2), fail)
        with pytest.raises(RunClosedError):
            spending.answer(3, weights(3), fail)
        spending.close()
        assert kinds(store) == ["reserve", "forfeit"]
        assert spent_steps(store) == 10

    @pytest.mark.parametrize("restarted", [True, False])
    def test_a_run_whose_hospital_deletes_its_data_is_closed_first(
        self, store: FolderStore, restarted: bool
    ) -> None:
        spending, log = opened(store), EgressLog(store)
        for round_ in (1, 2, 3):
            answer = spending.answer(round_, weights(round_), noised)
            log.release("update", "r1", answer.arrays["linear.bias"].tobytes(), f"round {round_}")
        delete_data(store, "hospital-a")
        assert kinds(store) == ["reserve", "settle"]
        assert spent_steps(store) == 3 * PRIVACY.steps
        if restarted:
            spending = opened(store)
        for round_ in (2, 4):
            with pytest.raises(RunClosedError):
                spending.answer(round_, weights(round_), fail)
        spending.close()
        assert spent_steps(store) == 3 * PRIVACY.steps

    def test_a_damaged_ledger_keeps_nobodys_rows(self, store: FolderStore) -> None:
        opened(store)
        store.put("records/x.parquet", b"rows")
        store.purge(store.list("ledger/")[0].key)
        delete_data(store, "hospital-a")
        assert not store.exists("records/x.parquet")

    def test_what_there_is_nothing_to_settle_of(self, store: FolderStore) -> None:
        with pytest.raises(NoReservationError, match="run r9"):
            settle_interrupted(store, "hospital-a", "r9")
        opened(store).close()
        with pytest.raises(RunClosedError):
            settle_interrupted(store, "hospital-a", "r1")


def train(store: FolderStore, run: str, first: int, tell: Callable[[int, str], None]) -> None:
    """A run at the site from a round on: it reserves, answers the rounds and settles."""
    spending, log = opened(store, run), EgressLog(store)
    for round_ in range(first, ROUNDS + 1):
        answer = spending.answer(round_, weights(round_), noised)
        message = b"".join(array.tobytes() for array in answer.arrays.values())
        log.release("update", run, message, f"round {round_}")
        tell(round_, hashlib.sha256(message).hexdigest())
    spending.close()


def train_in_a_child(
    folder: Path, run: str, first: int = 1, kill_at: float = math.inf
) -> tuple[dict[int, str], int]:
    """Train in a process that kills itself at its n-th use of a file.

    Returns:
        What reached the server, by round, and how often files were used; 0 if it was killed.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:

        def tell(*what: object) -> None:
            os.write(writing, f"{json.dumps(what)}\n".encode())

        try:
            used = die_at_file_use(kill_at)
            train(FolderStore(folder), run, first, tell)
            tell(0, used())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        told = dict(json.loads(line) for line in pipe)
    os.waitpid(child, 0)
    return told, told.pop(0, 0)


@pytest.mark.faults
def test_killed_anywhere_it_never_understates_and_never_pays_twice(tmp_path: Path) -> None:
    """Between reserving, training and settling, at thirty places, most of them within a write."""
    opened(FolderStore(tmp_path / "warm"), "warm").close()
    whole, uses = train_in_a_child(tmp_path / "whole", "r")
    assert len(whole) == ROUNDS
    assert uses > 60

    left_at = set()
    for place in sorted(random.Random(4).sample(range(1, uses), 30)):
        folder = tmp_path / f"killed-at-{place}"
        left, finished = train_in_a_child(folder, "r", kill_at=place)
        assert not finished
        left_at.add(len(left))
        store = FolderStore(folder)
        assert spent_steps(store) >= len(left) * PRIVACY.steps, place

        # The server may have lost the last answer: it asks that round again, unless it was the
        # last round and all that is left to do is to settle.
        resumed_at = max(len(left), 1) if len(left) < ROUNDS else ROUNDS + 1
        again, finished = train_in_a_child(folder, "r", first=resumed_at)

        assert finished, place
        assert set(left) | set(again) == set(range(1, ROUNDS + 1)), place
        assert all(again.get(round_, digest) == digest for round_, digest in left.items()), place
        assert kinds(store) == ["reserve", "settle"], place
        assert spent_steps(store) == ROUNDS * PRIVACY.steps, place
    assert left_at == set(range(ROUNDS + 1))


@pytest.mark.faults
def test_killed_anywhere_and_never_resumed_it_never_understates(tmp_path: Path) -> None:
    opened(FolderStore(tmp_path / "warm"), "warm").close()
    _, uses = train_in_a_child(tmp_path / "whole", "r")
    settled = 0
    for place in random.Random(5).sample(range(1, uses), 30):
        folder = tmp_path / f"killed-at-{place}"
        left, _ = train_in_a_child(folder, "r", kill_at=place)
        store = FolderStore(folder)
        try:
            settle_interrupted(store, "hospital-a", "r")
            settled += 1
        except (NoReservationError, RunClosedError):
            # It died before it reserved, or after it settled.
            pass
        spent = spent_steps(store)
        # At most one answer was stored and did not leave.
        assert len(left) * PRIVACY.steps <= spent <= (len(left) + 1) * PRIVACY.steps, place
    assert settled > 15

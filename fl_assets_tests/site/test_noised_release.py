from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fl_assets.consortium import PrivacyBudget
from fl_assets.learning.inputs import Floats
from fl_assets.privacy.accounting import epsilon, noise_multiplier
from fl_assets.privacy.ledger import BudgetExceededError, Ledger
from fl_assets.privacy.ledger_entries import Charge, Refusal
from fl_assets.privacy.noise import SeededNoise
from fl_assets.site.noised_release import NoisedRelease
from fl_assets.storage import FolderStore, ObjectInfo

DELTA = 1e-5
EXACT = np.array([1000.0, 20.0])


class Rows:
    """Sums over rows, which counts how often they were read."""

    def __init__(self) -> None:
        self.read = 0

    def __call__(self) -> Floats:
        self.read += 1
        return EXACT


def release(epsilon: float, cap: float = 3.0) -> NoisedRelease:
    return NoisedRelease("hospital-a", PrivacyBudget(epsilon=cap, delta=DELTA), epsilon, DELTA)


def ask(store: FolderStore, terms: NoisedRelease, rows: Rows, key: str = "rows-1") -> Floats:
    return terms.sums(store, key, rows, 1.0, run="run-1", what="sums of rows")


def acts(store: FolderStore) -> list[object]:
    return [entry.act for entry in Ledger(store, "hospital-a").entries()]


def test_a_release_is_charged_for_what_it_costs(store: FolderStore) -> None:
    noised = ask(store, release(1.0), Rows())
    assert (noised != EXACT).all()
    (charge,) = acts(store)
    assert isinstance(charge, Charge)
    assert (charge.run, charge.what, charge.epsilon) == ("run-1", "sums of rows", 1.0)
    assert epsilon(charge.events, DELTA) == pytest.approx(1.0, rel=1e-4)
    told = release(1.0).told(2.0)
    assert (told.epsilon, told.delta) == (1.0, DELTA)
    assert told.deviation == 2.0 * noise_multiplier(1.0, DELTA, 1.0, 1)


def test_asked_again_it_is_the_same_at_no_charge(store: FolderStore) -> None:
    rows = Rows()
    first = ask(store, release(1.0), rows)
    assert ask(store, release(1.0), rows).tolist() == first.tolist()
    # Also when nothing is left by now.
    assert ask(store, release(1.0, cap=0.5), rows).tolist() == first.tolist()
    assert rows.read == 1
    assert len(acts(store)) == 1


def test_other_rows_and_another_epsilon_are_releases_of_their_own(store: FolderStore) -> None:
    rows = Rows()
    seen = {
        tuple(ask(store, release(1.0), rows)),
        tuple(ask(store, release(0.5), rows)),
        tuple(ask(store, release(1.0), rows, key="rows-2")),
    }
    assert len(seen) == 3
    assert [act.epsilon for act in acts(store) if isinstance(act, Charge)] == [1.0, 0.5, 1.0]


def test_a_refusal_reads_no_row_and_has_its_arithmetic(store: FolderStore) -> None:
    rows = Rows()
    ask(store, release(1.0, cap=1.2), rows)
    with pytest.raises(
        BudgetExceededError, match=r"asks 1\.00, lifetime would be 1\.\d\d of 1\.20"
    ):
        ask(store, release(1.0, cap=1.2), rows, key="rows-2")
    assert rows.read == 1
    assert isinstance(acts(store)[-1], Refusal)
    assert [info.key for info in store.list("noised/")] == [
        "noised/rows-1/epsilon-1.0-delta-1e-05.json"
    ]


@pytest.mark.faults
def test_what_a_crash_left_unstored_is_charged_again_and_never_less(store: FolderStore) -> None:
    def crash() -> Floats:
        raise OSError

    with pytest.raises(OSError):
        release(1.0).sums(store, "rows-1", crash, 1.0, run="run-1", what="sums of rows")
    ask(store, release(1.0), Rows())
    assert len(acts(store)) == 2


@pytest.mark.faults
def test_of_two_at_once_both_tell_the_same(store: FolderStore) -> None:
    class Overtaken(Rows):
        def __call__(self) -> Floats:
            self.first = ask(store, release(1.0), Rows())
            return super().__call__()

    rows = Overtaken()
    assert ask(store, release(1.0), rows).tolist() == rows.first.tolist()
    assert len(acts(store)) == 2


@pytest.mark.faults
def test_it_is_stored_before_it_is_told(tmp_path: Path) -> None:
    class Full(FolderStore):
        def put_if_absent(self, key: str, data: bytes) -> ObjectInfo:
            if key.startswith("noised/"):
                raise OSError
            return super().put_if_absent(key, data)

    with pytest.raises(OSError):
        ask(Full(tmp_path / "hospital"), release(1.0), Rows())


def test_the_noise_may_be_given(store: FolderStore) -> None:
    terms = NoisedRelease("hospital-a", PrivacyBudget(), 1.0, DELTA, SeededNoise(7))
    drawn = SeededNoise(7).normal([2]).numpy()
    expected = EXACT + noise_multiplier(1.0, DELTA, 1.0, 1) * drawn
    np.testing.assert_allclose(ask(store, terms, Rows()), expected, rtol=1e-6)

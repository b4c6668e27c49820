from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from fl_assets.federation.checkpoints import (
    Checkpoint,
    Checkpoints,
    Inputs,
    OtherInputsError,
    history_so_far,
    unfinished_runs,
)
from fl_assets.federation.job import FederationHistory
from fl_assets.federation.rounds import Phase
from fl_assets.storage import FolderStore
from fl_assets_tests.federation.test_job import round_report

INPUTS = Inputs(recipe="0123456789ab", preprocessor="ba9876543210")


def checkpoint(round_: int, phase: Phase = "training") -> Checkpoint:
    rounds = tuple(round_report(r, a="v1") for r in range(1, round_ + 1))
    return Checkpoint(
        phase=phase,
        round=round_,
        weights={
            "encoder.0.weight": np.array([[round_, np.float32(1e-40)], [-0.0, 1]], np.float32),
            "a/strange name": np.empty((0, 3), np.float32),
        },
        state={
            "m/encoder.0.weight": np.full((2, 2), 0.1 * round_),
            "step": np.array(round_, np.int64),
        },
        history=FederationHistory(rounds=rounds, final={}, resumed=(1,)),
    )


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path)


def of(store: FolderStore, run: str = "r", inputs: Inputs = INPUTS, keep: int = 2) -> Checkpoints:
    return Checkpoints(store, run, inputs, keep)


def keys(store: FolderStore) -> list[str]:
    return [info.key for info in store.list()]


def assert_same(found: Checkpoint | None, expected: Checkpoint) -> None:
    assert found is not None
    assert (found.phase, found.round) == (expected.phase, expected.round)
    assert found.history == expected.history
    for mine, theirs in ((found.weights, expected.weights), (found.state, expected.state)):
        assert list(mine) == list(theirs)
        for name, array in theirs.items():
            assert mine[name].dtype == array.dtype
            assert mine[name].shape == array.shape
            assert mine[name].tobytes() == array.tobytes()


def test_the_newest_comes_back_bit_for_bit(store: FolderStore) -> None:
    assert of(store).latest() is None
    for round_ in (1, 2, 3):
        of(store).save(checkpoint(round_))
    assert_same(of(store).latest(), checkpoint(3))


def test_training_is_newer_than_pretraining(store: FolderStore) -> None:
    of(store).save(checkpoint(10, "pretraining"))
    of(store).save(checkpoint(1))
    assert_same(of(store).latest(), checkpoint(1))


@pytest.mark.parametrize("keep", [1, 2, 5])
def test_the_last_ones_are_kept(store: FolderStore, keep: int) -> None:
    checkpoints = of(store, keep=keep)
    for round_ in (9, 10):
        checkpoints.save(checkpoint(round_, "pretraining"))
    for round_ in range(1, 13):
        checkpoints.save(checkpoint(round_))
    assert keys(store) == [f"runs/r/checkpoints/training-{r:06d}" for r in range(13 - keep, 13)]


def test_those_that_an_interrupted_run_left_are_let_go_of_as_well(store: FolderStore) -> None:
    for round_ in (1, 2, 3):
        of(store, keep=3).save(checkpoint(round_))
    of(store, keep=2).save(checkpoint(4))
    assert keys(store) == [f"runs/r/checkpoints/training-{r:06d}" for r in (3, 4)]


def test_a_run_clears_its_own_and_no_others(store: FolderStore) -> None:
    store.put("runs/r/weights.npz", b"result")
    of(store, "r-2").save(checkpoint(1))
    of(store).save(checkpoint(1))
    of(store).save(checkpoint(2))

    checkpoints = of(store)
    checkpoints.clear()

    assert keys(store) == ["runs/r-2/checkpoints/training-000001", "runs/r/weights.npz"]
    assert checkpoints.latest() is None


def test_whatever_byte_a_crash_left_it_at_the_one_before_is_used(
    store: FolderStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    newest = "runs/r/checkpoints/training-000002"
    of(store).save(checkpoint(1))
    of(store).save(checkpoint(2))
    whole = store.get(newest)

    places = [*range(80), *range(80, len(whole), 37), len(whole) - 1]
    cut = (whole[:place] for place in places)
    flipped = (whole[:p] + bytes([whole[p] ^ 0x10]) + whole[p + 1 :] for p in places)
    for damaged in (*cut, *flipped, whole + b"\0"):
        # Not by a put, whose history of versions would make this slow.
        (tmp_path / newest).write_bytes(damaged)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert_same(of(store).latest(), checkpoint(1))
        assert f"{newest} is damaged or of another release: the one before it is used" in (
            caplog.text
        )
        assert not store.exists(newest)


def test_without_a_whole_one_a_run_begins_at_its_beginning(store: FolderStore) -> None:
    for round_ in (1, 2):
        store.put(f"runs/r/checkpoints/training-{round_:06d}", b"")
    checkpoints = of(store)
    assert checkpoints.latest() is None
    checkpoints.save(checkpoint(1))
    assert_same(of(store).latest(), checkpoint(1))


@pytest.mark.parametrize("changed", ["recipe", "preprocessor"])
def test_one_of_other_inputs_is_refused_and_kept(store: FolderStore, changed: str) -> None:
    of(store).save(checkpoint(1))
    other = INPUTS.model_copy(update={changed: "f00d"})
    with pytest.raises(OtherInputsError, match=r"run r has .*f00d.*name of its own, or do not"):
        of(store, inputs=other).latest()
    assert_same(of(store).latest(), checkpoint(1))


def test_nothing_in_a_checkpoint_can_be_a_pickle(store: FolderStore) -> None:
    bad = checkpoint(1)
    bad.state["step"] = np.array([object()])
    with pytest.raises(ValueError, match="allow_pickle"):
        of(store).save(bad)
    assert keys(store) == []


def test_an_unfinished_run_is_looked_at_without_a_change(store: FolderStore) -> None:
    checkpoints = of(store)
    checkpoints.save(checkpoint(1))
    checkpoints.save(checkpoint(2))
    store.put("runs/finished/history.json", b"{}")
    assert unfinished_runs(store) == ["r"]
    assert history_so_far(store, "r") == checkpoint(2).history

    store.put("runs/r/checkpoints/training-000002", b"damaged")
    before = keys(store)
    assert history_so_far(store, "r") == checkpoint(1).history
    assert keys(store) == before

    checkpoints.clear()
    assert unfinished_runs(store) == []
    assert history_so_far(store, "r") is None

import numpy as np
import pytest

from fl_assets.site.client_state import ClientState, Phase
from fl_assets.storage import FolderStore


@pytest.fixture
def state(store: FolderStore) -> ClientState:
    return ClientState(store, "run-1", rounds=2)


def keep(state: ClientState, *rounds: int, phase: Phase = Phase.TRAINING) -> None:
    for round_ in rounds:
        state.keep(phase, round_, {"w": np.full(2, round_, dtype=np.float32)})


def found(state: ClientState, round_: int, phase: Phase = Phase.TRAINING) -> float | None:
    weights = state.before(phase, round_)
    return None if weights is None else float(weights["w"][0])


def stored(store: FolderStore, run: str = "run-1") -> list[str]:
    return [info.key for info in store.list(f"federation/{run}/")]


def test_a_round_goes_on_from_the_last_one_before_it(state: ClientState) -> None:
    assert found(state, 1) is None
    keep(state, 1, 2)
    assert [found(state, round_) for round_ in (1, 2, 3, 9)] == [None, 1, 2, 2]


def test_every_value_survives_bit_for_bit(state: ClientState) -> None:
    arrays = {
        "encoder.1.weight": np.array([np.pi, 1e-45, -0.0, 3.4e38], dtype=np.float32),
        "head.bias": np.array([[0.1]], dtype=np.float32),
    }
    state.keep(Phase.TRAINING, 1, arrays)
    back = state.before(Phase.TRAINING, 2)
    assert back is not None
    assert {n: (a.dtype, a.shape, a.tobytes()) for n, a in back.items()} == {
        n: (a.dtype, a.shape, a.tobytes()) for n, a in arrays.items()
    }


def test_another_process_finds_it(state: ClientState, store: FolderStore) -> None:
    keep(state, 1)
    other = ClientState(store, "run-1", rounds=2)
    keep(other, 2)
    assert found(state, 3) == 2


def test_a_round_that_is_asked_again_starts_where_it_started(state: ClientState) -> None:
    """What an attempt that was cut off did beyond it is not taken up."""
    keep(state, 1, 2, 3, 4)
    assert found(state, 3) == 2
    keep(state, 3)
    assert found(state, 9) == 3


@pytest.mark.parametrize("missed", [(), (5,), (4, 5), (3, 4, 5)])
def test_the_server_may_go_back_as_far_as_it_has_checkpoints(
    state: ClientState, store: FolderStore, missed: tuple[int, ...]
) -> None:
    """With two kept it asks for round 5 at the earliest while round 6 is under way."""
    done = [round_ for round_ in range(1, 7) if round_ not in missed]
    keep(state, *done)
    for again in (5, 6, 7):
        assert found(state, again) == max(round_ for round_ in done if round_ < again)
    assert len(stored(store)) == 3


def test_training_goes_on_from_pretraining(state: ClientState, store: FolderStore) -> None:
    keep(state, 8, 9, phase=Phase.PRETRAINING)
    assert found(state, 1) == 9
    keep(state, 1)
    assert found(state, 2) == 1
    assert found(state, 9, Phase.PRETRAINING) == 8
    # Back in pre-training, what was trained on it is void.
    keep(state, 9, phase=Phase.PRETRAINING)
    assert stored(store) == [f"federation/run-1/pretraining-00000{n}.npz" for n in (8, 9)]


def test_a_run_has_states_of_its_own(state: ClientState, store: FolderStore) -> None:
    other = ClientState(store, "run-10", rounds=2)
    keep(state, 1, 2)
    keep(other, 1)
    state.clear()
    assert stored(store) == []
    assert found(state, 3) is None
    assert found(other, 3) == 1

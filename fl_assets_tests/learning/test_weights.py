import io
import pickle

import numpy as np
import pytest

from fl_assets.learning.weights import weights_from_bytes, weights_to_bytes

WEIGHTS = {
    "0.weight": np.array([[0.1, np.float32(1e-40), -3e38]], dtype=np.float32),
    "0.bias": np.array([7.0], dtype=np.float32),
    "empty": np.empty((0, 3), dtype=np.float32),
}


def test_weights_survive_bit_for_bit() -> None:
    read = weights_from_bytes(weights_to_bytes(WEIGHTS))
    assert list(read) == list(WEIGHTS)
    for name, array in WEIGHTS.items():
        assert read[name].dtype == np.float32
        assert read[name].shape == array.shape
        assert read[name].tobytes() == array.tobytes()


class Trap:
    """What unpickling would run."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise AssertionError('unpickled')",))


def test_weights_are_never_unpickled() -> None:
    buffer = io.BytesIO()
    np.savez(buffer, w=np.array([Trap()], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        weights_from_bytes(buffer.getvalue())
    with pytest.raises(ValueError, match="pickle"):
        weights_from_bytes(pickle.dumps(Trap()))

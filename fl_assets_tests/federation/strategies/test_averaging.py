from __future__ import annotations

import numpy as np
import pytest

from fl_assets.federation.strategies.averaging import IterateMean

MODELS = [{"w": np.array([k, -k], dtype=np.float32)} for k in range(1, 7)]


def after(mean: IterateMean, first: int = 1) -> list[np.ndarray]:
    return [mean.take(k, MODELS[k - 1])["w"] for k in range(first, 7)]


@pytest.mark.parametrize("last", [2, 3, 6])
def test_the_last_model_becomes_the_mean_of_the_last(last: int) -> None:
    *before, final = after(IterateMean(6, last))
    assert [model[0] for model in before] == [1, 2, 3, 4, 5]
    expected = np.mean([m["w"] for m in MODELS[-last:]], axis=0)
    np.testing.assert_array_equal(final, expected.astype(np.float32))
    assert final.dtype == np.float32


def test_with_one_round_it_is_the_last_model_itself() -> None:
    assert IterateMean(6, 1).take(6, MODELS[5]) is MODELS[5]


@pytest.mark.parametrize("stopped", [1, 3, 4, 5])
def test_a_resumed_mean_is_the_same_to_the_bit(stopped: int) -> None:
    whole = after(IterateMean(6, 4))[-1]
    first = IterateMean(6, 4)
    for k in range(1, stopped + 1):
        first.take(k, MODELS[k - 1])
    second = IterateMean(6, 4)
    others = {"momentum_vector/0000": np.zeros(2)}
    assert second.restore(first.state() | others).keys() == others.keys()
    np.testing.assert_array_equal(after(second, stopped + 1)[-1], whole)

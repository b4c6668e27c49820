"""The mean of a run's last global models."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Model = Mapping[str, NDArray[np.generic]]

_PREFIX = "mean/"


class IterateMean:
    """Averages the iterates of the last rounds (Polyak & Juditsky 1992, section 2).

    Rounds go on from the last model as ever; in place of the very last one comes the mean of the
    last few. Noise that the sites add to their updates largely cancels in it, and it costs no
    privacy, for it is computed from what was released. With one round it degenerates to the last
    model itself.

    Args:
        rounds: of the phase.
        last: how many of them to average.
    """

    def __init__(self, rounds: int, last: int) -> None:
        self._rounds = rounds
        self._last = last
        self._sums: dict[str, NDArray[np.float64]] = {}

    def averages(self, round_: int) -> bool:
        """Tell whether a round's model goes into the mean; where not, nobody need take it."""
        return self._last > 1 and round_ > self._rounds - self._last

    def take(self, round_: int, model: Model) -> Model:
        """Take a round's global model; return it, or after the last round the mean."""
        if not self.averages(round_):
            return model
        for name, value in model.items():
            self._sums[name] = self._sums.get(name, 0.0) + value.astype(np.float64)
        if round_ < self._rounds:
            return model
        return {name: (self._sums[name] / self._last).astype(v.dtype) for name, v in model.items()}

    def state(self) -> dict[str, NDArray[np.float64]]:
        """Return what a checkpoint must hold."""
        return {_PREFIX + name: total.copy() for name, total in self._sums.items()}

    def restore(self, state: Mapping[str, NDArray[np.floating]]) -> dict[str, NDArray[np.floating]]:
        """Take a checkpoint's sums; return the rest of its state, which is somebody else's."""
        mine = {name for name in state if name.startswith(_PREFIX)}
        self._sums = {n.removeprefix(_PREFIX): state[n].astype(np.float64) for n in mine}
        return {name: value for name, value in state.items() if name not in mine}

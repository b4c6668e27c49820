"""What a site keeps for itself between the rounds of a run; no message holds any of it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from fl_assets.learning.weights import Weights, weights_from_bytes, weights_to_bytes
from fl_assets.storage import SiteStore


class Phase(StrEnum):
    """A stretch of rounds; the names sort in the order in which the phases run."""

    PRETRAINING = "pretraining"
    TRAINING = "training"


class ClientState:
    """One state per round in the site's own store, under ``federation/<run>/``.

    The store alone is the truth and nothing is cached: the process that plays the site may end at
    any time, and the next round may come to another one. A round goes on from the state of the
    last round before it, so one that is asked again, as after a restart of the server, starts from
    where it started the first time.

    Args:
        store: the hospital's.
        run: name of the run.
        rounds: how far back the server may go: of so many rounds before the present one the state
            can be had.
    """

    def __init__(self, store: SiteStore, run: str, rounds: int) -> None:
        self._store = store
        self._folder = f"federation/{run}/"
        self._rounds = rounds

    def before(self, phase: Phase, round_: int) -> Weights | None:
        """Return the state of the last round before this one, None where there is none.

        The first round of a phase goes on from the last one of the phase before it.
        """
        earlier = [key for key in self._keys() if key < self._key(phase, round_)]
        return weights_from_bytes(self._store.get(earlier[-1])) if earlier else None

    def keep(self, phase: Phase, round_: int, arrays: Mapping[str, NDArray[np.float32]]) -> None:
        """Store the state of a round, durably, and let go of those no longer needed.

        Raises:
            StorageError: it could not be written.
        """
        key, keys = self._key(phase, round_), self._keys()
        for beyond in (k for k in keys if k >= key):
            # Of an attempt that was cut off.
            self._store.delete(beyond)
        # Unlike put, this one survives a power cut.
        self._store.put_if_absent(key, weights_to_bytes(arrays))
        for old in [k for k in keys if k < key][: -self._rounds]:
            self._store.delete(old)

    def clear(self) -> None:
        """Remove every state of the run."""
        for key in self._keys():
            self._store.delete(key)

    def _key(self, phase: Phase, round_: int) -> str:
        return f"{self._folder}{phase}-{round_:06d}.npz"

    def _keys(self) -> list[str]:
        return [info.key for info in self._store.list(self._folder)]

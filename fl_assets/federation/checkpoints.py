"""Checkpoints of a run: one object in the coordinator's store after every round."""

from __future__ import annotations

import hashlib
import logging
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fl_assets.config import StrictModel
from fl_assets.federation.job import FederationError, FederationHistory
from fl_assets.federation.rounds import Phase
from fl_assets.learning.weights import Weights, weights_from_bytes, weights_to_bytes
from fl_assets.storage import ObjectNotFoundError, SiteStore

log = logging.getLogger(__name__)

# Changes with what is in a checkpoint, so that one of another release is not taken for ours.
_HEAD = b"fl_assets checkpoint 1\n"
_DIGEST = hashlib.sha256().digest_size
_WEIGHTS, _STATE, _ABOUT = "weights/", "state/", "about"


class DamagedCheckpointError(FederationError):
    """A checkpoint that is not what was written, or of another release."""


class OtherInputsError(FederationError):
    """A run's checkpoint is of another recipe or preprocessor."""


class Inputs(StrictModel):
    """What a checkpoint is of, beside the run's name.

    Attributes:
        recipe: hash of the recipe.
        preprocessor: version of the preprocessor.
    """

    recipe: str
    preprocessor: str


@dataclass(frozen=True)
class Checkpoint:
    """All that the server knows after a round.

    Attributes:
        phase, round: the round that is done, from 1 in each phase.
        weights: of the whole model, also of layers that are not sent.
        state: of the strategy, see ``strategies/state.py``.
        history: so far.
    """

    phase: Phase
    round: int
    weights: Weights
    state: dict[str, NDArray[Any]]
    history: FederationHistory


class _About(StrictModel):
    inputs: Inputs
    phase: Phase
    round: int
    history: FederationHistory


class Checkpoints:
    """The checkpoints of one run, under ``runs/<run>/checkpoints/<phase>-<round>``.

    A checkpoint is a single object, so a put that is cut off leaves the one before as it was; a
    SHA-256 over its content finds what a power cut or a disk did to it later. With one checkpoint
    kept there is then none to fall back to, hence the default of two.

    Args:
        store: of the coordinator.
        run: name of the run.
        inputs: of this run; a checkpoint of others is refused.
        keep: how many of the last checkpoints to keep.
    """

    def __init__(self, store: SiteStore, run: str, inputs: Inputs, keep: int) -> None:
        self._store = store
        self._run = run
        self._inputs = inputs
        self._keep = keep
        self._prefix = f"runs/{run}/checkpoints/"
        # A listing is sorted, and the phases' names happen to sort as the phases do.
        self._keys = [info.key for info in store.list(self._prefix)]

    def save(self, checkpoint: Checkpoint) -> None:
        """Store a checkpoint, then delete those that are too old to keep."""
        key = f"{self._prefix}{checkpoint.phase}-{checkpoint.round:06d}"
        self._store.put(key, _to_bytes(checkpoint, self._inputs))
        self._keys.append(key)
        while len(self._keys) > self._keep:
            self._store.delete(self._keys.pop(0))

    def latest(self) -> Checkpoint | None:
        """Return the newest checkpoint that is whole; damaged ones are reported and deleted.

        Returns:
            None where there is none, so that the run begins at its beginning.

        Raises:
            OtherInputsError: it is of another recipe or preprocessor.
        """
        while self._keys:
            try:
                inputs, checkpoint = _from_bytes(self._store.get(self._keys[-1]))
            except DamagedCheckpointError as error:
                log.warning("%s %s: the one before it is used", self._keys[-1], error)
                self._store.delete(self._keys.pop())
                continue
            if inputs != self._inputs:
                raise OtherInputsError(
                    f"run {self._run} has a checkpoint of recipe {inputs.recipe} with preprocessor "
                    f"{inputs.preprocessor}, and is to go on with recipe {self._inputs.recipe} "
                    f"and preprocessor {self._inputs.preprocessor}: give the run a name of its "
                    "own, or do not resume, which begins anew and deletes the checkpoint"
                )
            return checkpoint
        return None

    def clear(self) -> None:
        """Delete them all."""
        while self._keys:
            self._store.delete(self._keys.pop())


def unfinished_runs(store: SiteStore) -> list[str]:
    """Return the names of runs that have left checkpoints: under way, or broken off."""
    parts = (info.key.split("/") for info in store.list("runs/"))
    return sorted({run for _, run, folder, *_ in parts if folder == "checkpoints"})


def history_so_far(store: SiteStore, run: str) -> FederationHistory | None:
    """Return what an unfinished run has done, without a change to its checkpoints.

    Returns:
        None where none of them can be read, as when the run has ended meanwhile.
    """
    for info in reversed(store.list(f"runs/{run}/checkpoints/")):
        try:
            return _from_bytes(store.get(info.key))[1].history
        except (DamagedCheckpointError, ObjectNotFoundError):
            continue
    return None


def _to_bytes(checkpoint: Checkpoint, inputs: Inputs) -> bytes:
    about = _About(
        inputs=inputs, phase=checkpoint.phase, round=checkpoint.round, history=checkpoint.history
    )
    # The history grows with every round and is very repetitive.
    packed = zlib.compress(about.model_dump_json().encode(), level=1)
    arrays: dict[str, NDArray[Any]] = {_ABOUT: np.frombuffer(packed, dtype=np.uint8)}
    arrays |= {_WEIGHTS + name: array for name, array in checkpoint.weights.items()}
    arrays |= {_STATE + name: array for name, array in checkpoint.state.items()}
    body = weights_to_bytes(arrays)
    return _HEAD + hashlib.sha256(body).digest() + body


def _from_bytes(data: bytes) -> tuple[Inputs, Checkpoint]:
    start = len(_HEAD) + _DIGEST
    digest, body = data[len(_HEAD) : start], data[start:]
    if not data.startswith(_HEAD) or hashlib.sha256(body).digest() != digest:
        raise DamagedCheckpointError("is damaged or of another release")
    arrays: dict[str, NDArray[Any]] = dict(weights_from_bytes(body))
    about = _About.model_validate_json(zlib.decompress(arrays[_ABOUT].tobytes()))
    return about.inputs, Checkpoint(
        about.phase, about.round, _under(_WEIGHTS, arrays), _under(_STATE, arrays), about.history
    )


def _under(prefix: str, arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the arrays whose names have a prefix, without it, in their order."""
    return {name[len(prefix) :]: a for name, a in arrays.items() if name.startswith(prefix)}

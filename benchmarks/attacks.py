"""A hospital that means harm: the real client app, with what it sends tampered with."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from numpy.typing import NDArray

from fl_assets.federation import rounds
from fl_assets.federation.client_app import app as client_app
from fl_assets.federation.job import FederationJob, FederationResult, load_result
from fl_assets.federation.runtimes.inprocess import InProcessGrid
from fl_assets.federation.server_app import app as server_app
from fl_assets.storage import open_store

Arrays = dict[str, NDArray[np.float32]]


class Attack(StrEnum):
    """What the hostile hospital does to its update in every round."""

    NONE = "none"
    SIGN_FLIP = "sign flip"
    SCALE = "x100"
    NAN = "NaN"
    SHAPE = "wrong shape"
    STALE = "stale"
    """Its reply of the first round, again and again."""


def _moved(factor: float) -> Callable[[Arrays, Arrays], Arrays]:
    """Send the global weights plus a multiple of the honest update."""
    return lambda sent, own: {name: sent[name] + factor * (own[name] - sent[name]) for name in own}


_TAMPER: dict[Attack, Callable[[Arrays, Arrays], Arrays]] = {
    Attack.SIGN_FLIP: _moved(-1.0),
    Attack.SCALE: _moved(100.0),
    Attack.NAN: lambda _, own: {name: np.full_like(value, np.nan) for name, value in own.items()},
    Attack.SHAPE: lambda _, own: {name: np.append(value, value) for name, value in own.items()},
}


class HostileApp:
    """The client app, of which one hospital is hostile.

    Args:
        hospital: that one.
        attack: what it does.
    """

    def __init__(self, hospital: str, attack: Attack) -> None:
        self._hospital = hospital
        self._attack = attack
        self._first: RecordDict | None = None

    def __call__(self, message: Message, context: Context) -> Message:
        """Answer a message."""
        reply = client_app(message, context)
        hostile = context.node_config["hospital"] == self._hospital
        if hostile and reply.has_content() and rounds.ARRAYS in reply.content.array_records:
            return self._tampered(message, reply)
        return reply

    def _tampered(self, message: Message, reply: Message) -> Message:
        if self._attack is Attack.STALE:
            self._first = self._first or reply.content
            return Message(self._first, reply_to=message)
        if self._attack in _TAMPER:
            sent, own = (_arrays(m.content) for m in (message, reply))
            found = _TAMPER[self._attack](sent, own)
            reply.content[rounds.ARRAYS] = ArrayRecord({n: Array(v) for n, v in found.items()})
        return reply


def _arrays(content: RecordDict) -> Arrays:
    return {name: array.numpy() for name, array in content.array_records[rounds.ARRAYS].items()}


def run_attacked(job: FederationJob, hospital: str, attack: Attack) -> FederationResult:
    """Run a job in this process, as the in-process runtime does, with a hostile hospital."""
    run_config, run_id = job.run_config(), time.time_ns() % 2**32
    grid = InProcessGrid(HostileApp(hospital, attack), job.nodes(), run_config, run_id)
    server_app(grid, Context(run_id, 1, {}, RecordDict(), run_config))
    return load_result(open_store(job.output), job.run)

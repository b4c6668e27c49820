"""Every import of a Flower module that Flower does not promise to keep, in one place.

``flwr`` is pinned to one minor version; ``fl_assets_tests/federation/flower_internals`` fails when
Flower changes under it, or when another module imports such a thing.
"""

from fl_assets.federation.flower_internals.messages import (
    PROCESS_TURN,
    ClientAppCallable,
    NodeInfo,
    Run,
    client_error,
    identify_process,
    message_over_the_wire,
    new_run,
    stamp,
    state_over_the_wire,
)
from fl_assets.federation.flower_internals.simulation import simulation_engine

__all__ = [
    "PROCESS_TURN",
    "ClientAppCallable",
    "NodeInfo",
    "Run",
    "client_error",
    "identify_process",
    "message_over_the_wire",
    "new_run",
    "simulation_engine",
    "stamp",
    "state_over_the_wire",
]

"""Flower's simulation engine.

What ``flwr.simulation`` does, without its thread for the server app, its telemetry and its three
seconds of waiting for a server app that has raised.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import Event, Thread

from flwr.app import Context, Message, RecordDict, UserConfig
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from fl_assets.federation.flower_internals.messages import identify_process, new_run


@contextmanager
def simulation_engine(
    client_app: Callable[[Message, Context], Message],
    nodes: Mapping[str, UserConfig],
    run_config: UserConfig,
    run_id: int,
) -> Iterator[Grid]:
    """Run Flower's Ray engine over virtual nodes, for as long as the context lasts.

    Ray must have been started; the engine shuts it down.

    Args:
        client_app: called in Ray's workers, so it travels there by pickle.
        nodes: config of each node by the name that the grid gives it.
        run_config: of the run.
        run_id: of the run.
    """
    # Late: these take longer to import than a small run in process lasts.
    import ray
    from flwr.common.constant import (
        HEARTBEAT_INTERVAL_INF,
        NOOP_ACCOUNT_NAME,
        NOOP_FLWR_AID,
        PARTITION_ID_KEY,
    )
    from flwr.compat.client.run_info_store import DeprecatedRunInfoStore, RunInfo
    from flwr.proto.task_pb2 import Task
    from flwr.server.superlink.fleet.vce import vce_api
    from flwr.server.superlink.fleet.vce.backend import BackendConfig
    from flwr.server.superlink.fleet.vce.backend.raybackend import RayBackend
    from flwr.server.superlink.fleet.vce.metrics import VceMetrics
    from flwr.server.superlink.linkstate import InMemoryLinkState, LinkStateFactory
    from flwr.server.superlink.linkstate.in_memory_linkstate import RunRecord
    from flwr.supercore.constant import FLWR_IN_MEMORY_DB_NAME, NOOP_FEDERATION_ID
    from flwr.supercore.object_store import ObjectStoreFactory
    from flwr.superlink.federation import NoOpFederationManager
    from flwr.superlink.grid import InMemoryGrid

    class Backend(RayBackend):
        """Workers that come back when they die, and end with Ray, which says nothing of it."""

        def __init__(self) -> None:
            # Flower goes on sending to a worker that died. A message is tried a second time.
            config: BackendConfig = {
                "client_resources": {"num_cpus": 1, "max_restarts": -1, "max_task_retries": 1}
            }
            super().__init__(config)

        def terminate(self) -> None:
            ray.shutdown()

    identify_process(run_id)
    run = new_run(run_id)
    run.primary_task_id, run.federation_id = TaskIdentity.task_id, NOOP_FEDERATION_ID
    states = LinkStateFactory(FLWR_IN_MEMORY_DB_NAME, NoOpFederationManager(), ObjectStoreFactory())
    state = states.state()
    assert isinstance(state, InMemoryLinkState)
    state.run_ids[run_id] = RunRecord(run=run)
    state.task_store[run.primary_task_id] = Task(task_id=run.primary_task_id, run_id=run_id)
    contexts: dict[int, DeprecatedRunInfoStore] = {}
    for place, (name, config) in enumerate(nodes.items()):
        key, always = secrets.token_bytes(32), HEARTBEAT_INTERVAL_INF
        node = state.create_node(NOOP_FLWR_AID, NOOP_ACCOUNT_NAME, key, always, name=name)
        state.acknowledge_node_heartbeat(node, always)
        contexts[node] = DeprecatedRunInfoStore(node, {PARTITION_ID_KEY: place, **config})
        context = Context(run_id, node, contexts[node].node_config, RecordDict(), run_config)
        contexts[node].run_infos[run_id] = RunInfo(context, run_config)
    grid = InMemoryGrid(states)
    grid.set_run(run)
    ended = Event()
    places = {node: place for place, node in enumerate(contexts)}
    engine = Thread(
        target=vce_api.run_api,
        args=(lambda: client_app, Backend, places, states, contexts, ended, VceMetrics()),
        name="simulation",
    )
    engine.start()
    try:
        yield grid
    finally:
        ended.set()
        engine.join()

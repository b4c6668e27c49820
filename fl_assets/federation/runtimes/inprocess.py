"""The in-process runtime: real server app, strategy and client app, no network, no new process."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait

from fl_assets.federation.flower_internals import (
    NodeInfo,
    Run,
    client_error,
    identify_process,
    message_over_the_wire,
    new_run,
    stamp,
    state_over_the_wire,
)

from flwr.app import Context, Message, RecordDict  # isort: skip
from flwr.clientapp import ClientApp  # isort: skip
from flwr.serverapp import Grid  # isort: skip

from fl_assets.federation.job import FederationJob, FederationResult, load_result
from fl_assets.storage import open_store


class InProcessGrid(Grid):
    """Hands every message to the client app in a worker thread, as protobuf would carry it.

    Messages and contexts are copied through the wire's protobuf, so a client cannot change what
    another one sees and state that would not survive a real link fails here too. One worker is
    deterministic (torch's generator is shared by threads) and, for models this small, faster
    than several.

    Args:
        client_app: the one client app.
        hospitals: store URI by hospital.
        run_config: of the run.
        run_id: of the run.
    """

    def __init__(
        self,
        client_app: ClientApp,
        hospitals: dict[str, str],
        run_config: dict[str, bool | float | int | str],
        run_id: int,
    ) -> None:
        identify_process(run_id)
        self._app = client_app
        self._run = new_run(run_id)
        self._names = dict(enumerate(sorted(hospitals), start=1))
        self._contexts = {
            node: Context(
                run_id=run_id,
                node_id=node,
                node_config={"hospital": name, "store": hospitals[name]},
                state=RecordDict(),
                run_config=dict(run_config),
            )
            for node, name in self._names.items()
        }
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="site")
        self._pending: dict[str, Future[Message]] = {}

    def set_run(self, run: Run) -> None:
        """Set the run."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Create a message to a node."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return the ids of the hospitals' nodes."""
        return list(self._names)

    def get_nodes(self) -> Iterable[NodeInfo]:
        """Return the nodes with their hospitals' names."""
        return [NodeInfo(node_id=n, name=s, status="online") for n, s in self._names.items()]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Start on messages; return their ids."""
        ids = []
        for message in messages:
            ids.append(stamp(message))
            copy = message_over_the_wire(message)
            self._pending[ids[-1]] = self._worker.submit(self._handle, copy)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies that are there, each once."""
        done = [i for i in message_ids if i in self._pending and self._pending[i].done()]
        return [self._pending.pop(i).result() for i in done]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Send messages and wait for their replies, ``timeout`` seconds at most.

        A late site's reply is dropped when it comes; its thread cannot be stopped.
        """
        ids = list(self.push_messages(messages))
        wait([self._pending[i] for i in ids], timeout=timeout)
        replies = self.pull_messages(ids)
        for i in ids:
            late = self._pending.pop(i, None)
            if late is not None:
                late.cancel()
        return replies

    def close(self) -> None:
        """Stop taking messages."""
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _handle(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        context = state_over_the_wire(self._contexts[node])
        try:
            return message_over_the_wire(self._app(message, context))
        except Exception as error:
            # What Flower answers for a client that raised, whatever it raised.
            return client_error(error, message)
        finally:
            self._contexts[node] = context


class InProcessRuntime:
    """Runs a job in this process; seconds, and bit for bit what a deployment computes."""

    def run(self, job: FederationJob) -> FederationResult:
        """Train; see :meth:`fl_assets.federation.runtimes.base.Runtime.run`."""
        from fl_assets.federation.client_app import app as client_app
        from fl_assets.federation.server_app import app as server_app

        run_config = job.run_config()
        run_id = zlib.crc32(f"{job.run}{time.time_ns()}".encode())
        grid = InProcessGrid(client_app, job.sites, run_config, run_id)
        context = Context(
            run_id=run_id, node_id=1, node_config={}, state=RecordDict(), run_config=run_config
        )
        try:
            server_app(grid, context)
        finally:
            grid.close()
        return load_result(open_store(job.output), job.run)

"""The in-process runtime: real server app, strategy and client app, no network, no new process."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, wait
from threading import Lock, Thread

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from fl_assets.federation.flower_internals import (
    PROCESS_TURN,
    NodeInfo,
    Run,
    client_error,
    identify_process,
    message_over_the_wire,
    new_run,
    stamp,
    state_over_the_wire,
)
from fl_assets.federation.job import FederationJob, FederationResult, load_result
from fl_assets.federation.site_config import SiteConfig
from fl_assets.storage import open_store


class InProcessGrid(Grid):
    """Hands every message to the client app in a thread, as protobuf would carry it.

    Messages and contexts are copied through the wire's protobuf, so a client cannot change what
    another one sees and state that would not survive a real link fails here too. A site does one
    thing at a time, like a SuperNode.

    Args:
        client_app: the one client app.
        nodes: config of each hospital's node.
        run_config: of the run.
        run_id: of the run.
    """

    def __init__(
        self,
        client_app: ClientApp,
        nodes: Mapping[str, SiteConfig],
        run_config: dict[str, bool | float | int | str],
        run_id: int,
    ) -> None:
        identify_process(run_id)
        self._app = client_app
        self._run = new_run(run_id)
        self._names = dict(enumerate(sorted(nodes), start=1))
        self._contexts = {
            node: Context(
                run_id=run_id,
                node_id=node,
                node_config={**nodes[name].to_node()},
                state=RecordDict(),
                run_config=dict(run_config),
            )
            for node, name in self._names.items()
        }
        self._busy = {node: Lock() for node in self._names}
        self._replies: dict[str, Future[Message]] = {}

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
        return [self._push(message) for message in messages]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies that are there, each once."""
        done = [i for i in message_ids if i in self._replies and self._replies[i].done()]
        return [self._replies.pop(i).result() for i in done]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Send messages and wait for their replies, ``timeout`` seconds at most for each.

        The sites take turns: models this small lose time to a second thread, and a site that
        shares the cores must not be late because of another one. A late site's reply is dropped
        when it comes.
        """
        replies: list[Message] = []
        for message in messages:
            sent = self._push(message)
            wait([self._replies[sent]], timeout=timeout)
            replies += self.pull_messages([sent])
            if sent in self._replies:
                # Has no effect on a site that is at it; one that is not yet need not begin.
                self._replies.pop(sent).cancel()
        return replies

    def _push(self, message: Message) -> str:
        sent = stamp(message)
        reply = self._replies[sent] = Future[Message]()
        copy = message_over_the_wire(message)
        # A daemon, since a site that hangs must not keep the process from ending.
        Thread(target=self._answer, args=(copy, reply), name="site", daemon=True).start()
        return sent

    def _answer(self, message: Message, reply: Future[Message]) -> None:
        node = message.metadata.dst_node_id
        with self._busy[node]:
            if not reply.set_running_or_notify_cancel():
                return
            context = self._contexts[node]
            try:
                answer = message_over_the_wire(self._app(message, context))
                self._contexts[node] = state_over_the_wire(context)
            except Exception as error:
                # What Flower answers for a client that raised, whatever it raised.
                answer = client_error(error, message)
            reply.set_result(answer)


class InProcessRuntime:
    """Runs a job in this process; seconds, and bit for bit what a deployment computes."""

    def run(self, job: FederationJob) -> FederationResult:
        """Train; see :meth:`fl_assets.federation.runtimes.base.Runtime.run`."""
        from fl_assets.federation.client_app import app as client_app
        from fl_assets.federation.server_app import app as server_app

        run_config = job.run_config()
        run_id = zlib.crc32(f"{job.run}{time.time_ns()}".encode())
        context = Context(
            run_id=run_id, node_id=1, node_config={}, state=RecordDict(), run_config=run_config
        )
        with PROCESS_TURN:
            server_app(InProcessGrid(client_app, job.nodes(), run_config, run_id), context)
        return load_result(open_store(job.output), job.run)

"""The server app's way to the sites of a deployment."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from fl_assets.federation.flower_internals import NodeInfo, Run
from fl_assets.federation.flower_internals.tasks import Task, Tasks

_POLL_SECONDS = 0.01  # the link holds a request until a reply may be there
_GRACE_SECONDS = 5.0


class DeployedGrid(Grid):
    """What Flower's grid for the Runtime API does, without its waits of 3 s and of 1 s.

    Args:
        tasks: of the SuperLink.
        task: the server's.
        hospitals: names of the nodes that take part; others are not seen.
    """

    def __init__(self, tasks: Tasks, task: Task, hospitals: Collection[str]) -> None:
        self._tasks = tasks
        self._wire = task.wire
        self._run = task.run
        self._hospitals = hospitals

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
        """Return the ids of the hospitals' nodes that are connected."""
        return [node.node_id for node in self.get_nodes()]

    def get_nodes(self) -> Iterable[NodeInfo]:
        """Return the hospitals' nodes that are connected; each name is bound to its node's key."""
        return [node for node in self._tasks.nodes() if node.name in self._hospitals]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send messages; return their ids, empty for one that the link does not take."""
        return self._wire.send(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies that are there, each once."""
        return self._wire.receive(message_ids)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Send messages and return the replies that come within ``timeout`` seconds."""
        messages = list(messages)
        end = time.monotonic() + timeout if timeout is not None else float("inf")
        if timeout is not None:
            for message in messages:
                # So that a site that was away does not begin with the rounds that it missed.
                message.metadata.ttl = min(message.metadata.ttl, timeout + _GRACE_SECONDS)
        missing = set(self.push_messages(messages)) - {""} if messages else set()
        replies: list[Message] = []
        while missing and time.monotonic() < end:
            came = list(self.pull_messages(missing))
            missing -= {reply.metadata.reply_to_message_id for reply in came}
            replies += came
            if not came:
                time.sleep(_POLL_SECONDS)
        return replies

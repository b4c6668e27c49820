"""Every import of a Flower module that Flower does not promise to keep, in one place.

``flwr`` is pinned to one minor version; ``fl_assets_tests/federation/test_flower_internals.py``
fails when Flower changes under it, or when another module imports such a thing.
"""

from __future__ import annotations

import logging
import uuid

from flwr.app import Context, Error, Message
from flwr.clientapp.typing import ClientAppCallable
from flwr.common.constant import ErrorCode
from flwr.common.serde import (
    context_from_proto,
    context_to_proto,
    message_from_proto,
    message_to_proto,
)
from flwr.proto.message_pb2 import Context as ContextProto
from flwr.proto.message_pb2 import Message as MessageProto
from flwr.proto.node_pb2 import NodeInfo
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

__all__ = [
    "ClientAppCallable",
    "NodeInfo",
    "Run",
    "client_error",
    "identify_process",
    "message_over_the_wire",
    "new_run",
    "stamp",
    "state_over_the_wire",
]


def identify_process(run_id: int) -> None:
    """Tell Flower which run this process works for; ``Message`` cannot be made without it.

    Process-global in Flower: one federation at a time per process.
    """
    TaskIdentity.run_id = run_id
    TaskIdentity.task_id = TaskIdentity.node_id = 1
    # Its INFO lines repeat our progress, in colours and on every round.
    logging.getLogger("flwr").setLevel(logging.ERROR)


def new_run(run_id: int) -> Run:
    """Return an empty run."""
    return Run.create_empty(run_id)


def stamp(message: Message) -> str:
    """Give a message the id that a link would give it on arrival, and return it."""
    message_id = uuid.uuid4().hex
    message.metadata.__dict__["_message_id"] = message_id
    return message_id


def message_over_the_wire(message: Message) -> Message:
    """Return what the receiver of a message would see: a copy through the wire's protobuf."""
    data = message_to_proto(message).SerializeToString()
    return message_from_proto(MessageProto.FromString(data))


def state_over_the_wire(context: Context) -> Context:
    """Return a context as a client process would get it: a copy through the wire's protobuf."""
    data = context_to_proto(context).SerializeToString()
    return context_from_proto(ContextProto.FromString(data))


def client_error(error: Exception, message: Message) -> Message:
    """Return the reply that Flower sends for a client that raised."""
    reason = f"{type(error).__name__}: {error}"
    return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=message)

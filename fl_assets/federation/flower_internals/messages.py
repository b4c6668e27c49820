"""Messages, contexts and errors as they are on the wire, and who this process is to Flower."""

from __future__ import annotations

import logging
import uuid
from threading import Lock

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
    "PROCESS_TURN",
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

PROCESS_TURN = Lock()
"""Held for a whole run: Flower knows one per process, so a second one waits for its turn."""


def identify_process(run_id: int) -> None:
    """Tell Flower which run this process works for; ``Message`` cannot be made without it.

    Process-global in Flower, so only for the holder of ``PROCESS_TURN``.
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

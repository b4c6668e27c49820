"""The loop of Flower's SuperNode, without its sleeps and with an end of what belongs to ended runs.

It takes a message, waits until there is a reply, any reply, and sends it. Three things differ here:

- It sleeps 3 s when there is no message and 0.5 s when there is no reply yet; it is woken instead.
- When a run ends while a message of it is on its way, Flower leaves the message half there. The
  executor would wait in vain for its content and then refuse it, and the loop would send that
  refusal in place of the next run's first reply. So what has come of the message is removed.
- Should such a late reply be sent in place of another one all the same, the other one would lie
  until the next message comes, which may be never, since the server waits for that reply. So
  whatever lies there is sent when there is no message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from importlib import import_module
from threading import Event
from types import SimpleNamespace
from typing import Any

from flwr.supercore.run import RunNotRunningException
from flwr.supernode.nodestate import NodeState

from fl_assets.errors import FlAssetsError

# Untyped, since three of its globals are replaced.
stock: Any = import_module("flwr.supernode.start_client_internal")

_IDLE_SECONDS = 0.01  # the link has held the request for news before


class RunEndedError(FlAssetsError):
    """A run ended while a message of it was on its way to the site."""

    def __init__(self) -> None:
        super().__init__("the run has ended, its message is removed")


@contextmanager
def mended(state: NodeState, replied: Event, received: Callable[[], None]) -> Iterator[None]:
    """Have the loop of this process run as it should.

    Args:
        state: of the node.
        replied: set when the executor has handed in a reply.
        received: called with each message that is there with all its parts.
    """
    connect, push = stock.http_request_response, stock._push_messages
    # What the loop pushes with, once it has pushed.
    pushing: dict[str, Any] = {}

    def sleep(seconds: float) -> None:
        idle = seconds > 1
        replied.wait(_IDLE_SECONDS if idle else seconds)
        replied.clear()
        if idle and pushing and has_reply(state):
            push(**pushing)

    def pushed(**means: Any) -> None:
        pushing.update(means)
        push(**means)

    @contextmanager
    def connected(*args: Any) -> Iterator[tuple[Any, ...]]:
        with connect(*args) as (*others, pull, push_object, confirm):

            def confirmed(run_id: int, message_id: str) -> None:
                _while_running(confirm)(run_id, message_id)
                received()

            yield (*others, _while_running(pull), push_object, confirmed)

    time = stock.time
    stock.time = SimpleNamespace(sleep=sleep)
    stock.http_request_response, stock._push_messages = connected, pushed
    try:
        yield
    finally:
        stock.time, stock.http_request_response, stock._push_messages = time, connect, push


def has_reply(state: NodeState) -> bool:
    """Tell whether a reply waits to be sent; unlike Flower's question this takes none."""
    entries = list(vars(state)["msg_store"].values())
    return any(e.message.metadata.reply_to_message_id and not e.is_retrieved for e in entries)


def _while_running(function: Callable[..., Any]) -> Callable[..., Any]:
    """Have the end of a run raise what makes the loop clean up, which is an Exception."""

    @wraps(function)
    def call(*args: Any) -> Any:
        try:
            return function(*args)
        except RunNotRunningException:
            raise RunEndedError from None

    return call

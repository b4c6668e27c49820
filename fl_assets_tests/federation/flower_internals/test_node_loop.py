"""The loop of a SuperNode, with a state of Flower's own."""

import ast
import inspect
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.common.constant import Status
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.run import Run, RunNotRunningException
from flwr.supernode.nodestate import NodeState, NodeStateFactory

from fl_assets.federation.flower_internals import identify_process, node_loop
from fl_assets.federation.flower_internals.node_loop import has_reply, stock

RUN = 77


def calls(module: ModuleType, name: str) -> list[str]:
    """The arguments of every call of a function in a module, as source."""
    tree = ast.parse(inspect.getsource(module))
    return [
        ast.unparse(node.args[0]) if node.args else ""
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == name
    ]


def test_the_node_sleeps_where_we_wake_it_and_nowhere_else() -> None:
    # Idle; for a reply; for the parts of a reply. They are told apart by their length.
    assert sorted(calls(stock, "time.sleep")) == ["0.5", "0.5", "3"]
    assert {
        ast.unparse(node)
        for node in ast.walk(ast.parse(inspect.getsource(stock)))
        if isinstance(node, ast.Attribute) and ast.unparse(node).startswith("time.")
    } == {"time.sleep"}


def test_the_last_functions_of_a_connection_pull_push_and_confirm() -> None:
    unpacked = (
        "pull_object,\n            push_object,\n            confirm_message_received,\n        "
        ") = conn"
    )
    assert unpacked in inspect.getsource(stock.start_client_internal)
    source = inspect.getsource(stock._pull_and_store_message)
    stored = source.index("object_store.put(obj_id")
    assert stored < source.index("confirm_message_received(run_id, message.metadata.message_id)")


@pytest.fixture
def states() -> NodeStateFactory:
    factory = NodeStateFactory(ObjectStoreFactory())
    factory.state().set_node_id(9)
    factory.state().store_run(Run.create_empty(RUN))
    return factory


@pytest.fixture
def state(states: NodeStateFactory) -> NodeState:
    return states.state()


def message_to_node() -> Message:
    identify_process(RUN)
    content = RecordDict({"config": ConfigRecord({"round": 1})})
    message = Message(content, dst_node_id=9, message_type="train")
    message.metadata.__dict__["_message_id"] = message.object_id
    return message


@contextmanager
def looping(state: NodeState, pull: Any, confirm: Any) -> Iterator[tuple[Any, Any]]:
    """The functions to pull and to confirm that the mended loop gets."""

    @contextmanager
    def connect(*_: Any) -> Iterator[tuple[Any, ...]]:
        yield (pull, None, confirm)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stock, "http_request_response", connect)
        with (
            node_loop.mended(state, threading.Event(), lambda: None),
            stock.http_request_response() as (pulls, _, confirms),
        ):
            yield pulls, confirms


@pytest.mark.parametrize("ends_at", ["pull", "confirm"])
def test_of_a_run_that_ends_under_way_nothing_stays(
    states: NodeStateFactory, state: NodeState, ends_at: str
) -> None:
    message = message_to_node()
    objects = {key: found.deflate() for key, found in get_all_nested_objects(message).items()}
    tree = get_object_tree(message)

    def pull(_: int, object_id: str) -> bytes:
        if ends_at == "pull":
            raise RunNotRunningException
        return objects[object_id]

    def confirm(_: int, __: str) -> None:
        raise RunNotRunningException

    store = states.objectstore_factory.store()
    with looping(state, pull, confirm) as (pulls, confirms):
        run = stock._pull_and_store_message(
            state=state,
            object_store=store,
            node_config={},
            receive=lambda: (remove_content_from_message(message), tree),
            get_run=None,
            get_fab=None,
            pull_object=pulls,
            confirm_message_received=confirms,
            trusted_entities=None,
        )

    assert run is None
    assert state.get_messages_legacy() == []
    assert [task.status.status for task in state.get_tasks()] == [Status.FINISHED]
    assert store.get(message.object_id) is None


def test_a_reply_that_lies_there_is_sent_when_there_is_no_message(state: NodeState) -> None:
    """As after a late reply of an ended run was sent in its place."""
    sent: list[Message] = []

    def push(*, state: NodeState, **_: Any) -> None:
        sent.extend(state.get_messages_legacy(is_reply=True))

    def reply() -> Message:
        message = Message(RecordDict(), reply_to=message_to_node())
        message.metadata.__dict__["_message_id"] = message.object_id
        return message

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stock, "_push_messages", push)
        with node_loop.mended(state, threading.Event(), lambda: None):
            state.store_message(reply())
            stock._push_messages(state=state, object_store=None, send=None, push_object=None)
            assert len(sent) == 1
            stock.time.sleep(3)
            assert len(sent) == 1
            state.store_message(message_to_node())
            assert not has_reply(state)
            state.store_message(reply())
            assert has_reply(state)
            # Waiting for a reply is not being idle.
            stock.time.sleep(0.001)
            assert len(sent) == 1
            stock.time.sleep(3)
            assert len(sent) == 2
            assert not has_reply(state)
    assert stock._push_messages is not push


def test_a_node_is_woken_by_a_reply_and_tells_of_a_message(
    monkeypatch: pytest.MonkeyPatch, state: NodeState
) -> None:
    confirmed: list[tuple[int, str]] = []
    received = threading.Event()

    @contextmanager
    def connect(*args: Any) -> Iterator[tuple[Any, ...]]:
        yield (*args, None, None, lambda run, message: confirmed.append((run, message)))

    monkeypatch.setattr(stock, "http_request_response", connect)
    push = stock._push_messages
    replied = threading.Event()
    with node_loop.mended(state, replied, received.set):
        replied.set()
        before = time.monotonic()
        stock.time.sleep(0.5)
        stock.time.sleep(3)
        assert time.monotonic() - before < 0.4
        assert not replied.is_set()
        with stock.http_request_response("address") as (address, _, _, confirm):
            assert address == "address"
            assert not received.is_set()
            confirm(3, "m")
    assert confirmed == [(3, "m")]
    assert received.is_set()
    assert stock.time is time
    assert stock.http_request_response is connect
    assert stock._push_messages is push

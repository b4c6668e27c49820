"""What the adapters of SuperLink and SuperNode stand on."""

import ast
import inspect
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

import pytest
from starlette.middleware import Middleware

from fl_assets.federation.flower_internals import servers

NODE_LOOP = import_module("flwr.supernode.start_client_internal")
LINK_MAIN = import_module("flwr.superlink.main")


def calls(module: ModuleType, name: str) -> list[str]:
    """The arguments of every call of a function in a module, as source."""
    tree = ast.parse(inspect.getsource(module))
    return [
        ast.unparse(node.args[0]) if node.args else ""
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == name
    ]


def test_the_node_sleeps_where_we_wake_it_and_nowhere_else() -> None:
    # Idle; for a reply; for the parts of a reply. `_woken` tells them apart by their length.
    assert sorted(calls(NODE_LOOP, "time.sleep")) == ["0.5", "0.5", "3"]
    assert {
        ast.unparse(node)
        for node in ast.walk(ast.parse(inspect.getsource(NODE_LOOP)))
        if isinstance(node, ast.Attribute) and ast.unparse(node).startswith("time.")
    } == {"time.sleep"}


def test_the_last_function_of_a_connection_confirms_a_message() -> None:
    unpacked = "push_object,\n            confirm_message_received,\n        ) = conn"
    assert unpacked in inspect.getsource(NODE_LOOP.start_client_internal)
    source = inspect.getsource(NODE_LOOP._pull_and_store_message)
    stored = source.index("object_store.put(obj_id")
    assert stored < source.index("confirm_message_received(run_id, message.metadata.message_id)")


def test_a_node_is_woken_by_a_reply_and_tells_of_a_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    confirmed: list[tuple[int, str]] = []
    received = threading.Event()

    @contextmanager
    def connect(*args: Any) -> Iterator[tuple[Any, ...]]:
        yield (*args, lambda run, message: confirmed.append((run, message)))

    monkeypatch.setattr(NODE_LOOP, "http_request_response", connect)
    replied = threading.Event()
    with servers._woken(replied, received.set):
        replied.set()
        before = time.monotonic()
        NODE_LOOP.time.sleep(0.5)
        NODE_LOOP.time.sleep(3)
        assert time.monotonic() - before < 0.4
        assert not replied.is_set()
        with NODE_LOOP.http_request_response("address") as (address, confirm):
            assert address == "address"
            assert not received.is_set()
            confirm(3, "m")
    assert confirmed == [(3, "m")]
    assert received.is_set()
    assert NODE_LOOP.time is time
    assert NODE_LOOP.http_request_response is connect


def test_every_layer_of_the_link_is_one_that_we_know() -> None:
    known = {*servers._DOMAINS, *servers._IDLE}
    others = [m for m in LINK_MAIN._get_middleware() if m.cls not in known]
    names = [m.cls.__name__ for m in others]
    assert names == ["BaseHTTPMiddleware", "ProtobufTranslationMiddleware"]
    assert {m.cls for m in LINK_MAIN._get_middleware()} >= known


def test_a_layer_that_is_skipped_looks_at_nothing_but_its_domain() -> None:
    for layer, prefix in servers._DOMAINS.items():
        source = inspect.getsource(layer) + inspect.getsource(inspect.getmodule(layer) or layer)
        assert prefix in source, layer
    assert "FLWR_TRACING_ENABLED" in inspect.getsource(servers.RuntimeTracingMiddleware)
    assert "plugin is None" in inspect.getsource(servers.FleetEventLogMiddleware)


def test_the_link_is_built_with_the_layers_that_matter() -> None:
    stock = LINK_MAIN._get_middleware
    with servers._lean():
        lean = LINK_MAIN._get_middleware()
    assert LINK_MAIN._get_middleware is stock
    kept = [m.kwargs["inner"].cls if m.cls is servers._OnlyFor else m.cls for m in lean]
    assert kept == [m.cls for m in stock() if m.cls not in servers._IDLE]


def test_a_layer_is_entered_by_its_own_paths() -> None:
    import asyncio

    entered: list[str] = []

    class Layer:
        def __init__(self, app: Any, name: str) -> None:
            self._app, self._name = app, name

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            entered.append(f"{self._name} {scope['path']}")
            await self._app(scope, receive, send)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        entered.append(f"app {scope['path']}")

    inner = Middleware(Layer, name="layer")  # type: ignore[arg-type]
    wrapped = servers._OnlyFor(app, "/v1/control/", inner)
    for path in ("/v1/control/start-run", "/v1/fleet/pull-messages"):
        asyncio.run(wrapped({"type": "http", "path": path}, None, None))  # type: ignore[arg-type]
    assert entered == [
        "layer /v1/control/start-run",
        "app /v1/control/start-run",
        "app /v1/fleet/pull-messages",
    ]


def test_modules_hand_their_work_over_by_the_name_that_we_replace() -> None:
    from starlette.concurrency import run_in_threadpool

    for name in servers._HANDING_OVER:
        found = vars(import_module(name)).get("run_in_threadpool")
        assert found in (run_in_threadpool, servers._here), name


def test_every_path_that_is_held_exists() -> None:
    from flwr.supercore.protobuf.translation import PROTOBUF_REQUEST_TYPES

    paths = {path for _, path in PROTOBUF_REQUEST_TYPES}
    for topics in (servers._LINK, servers._NODE):
        assert {*topics.asks, *topics.tells, *topics.rings} <= paths
        told = {*topics.tells.values(), *topics.rings.values()}
        assert set(topics.asks.values()) <= told | {"tasks"}

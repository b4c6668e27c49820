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
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

from fl_assets.federation.flower_internals import servers

NODE_LOOP = import_module("flwr.supernode.start_client_internal")


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


class Layers(Starlette):
    """An app under three layers of Starlette's middleware, as Flower's are."""

    def __init__(self) -> None:
        async def read(request: Request, call_next: Any) -> Response:
            request.state.body = await request.body()
            response = await call_next(request)
            response.headers["x-layer"] = "read"
            return response

        async def catch(request: Request, call_next: Any) -> Response:
            try:
                return await call_next(request)
            except KeyError as error:
                return Response(f"caught {error}", 418)

        async def turn_away(request: Request, call_next: Any) -> Response:
            if "away" in request.headers:
                raise HTTPException(401, "go away")
            return await call_next(request)

        async def answer(request: Request) -> Response:
            if request.state.body == b"raise":
                raise KeyError("inside")
            return Response(b"got " + request.state.body, 201, {"x-inner": "yes"})

        layers = (catch, read, turn_away)
        super().__init__(
            middleware=[Middleware(BaseHTTPMiddleware, dispatch=layer) for layer in layers],
            routes=[
                Route(f"/v1/{api}/do", answer, methods=["POST"])
                for api in ("fleet", "runtime", "control")
            ],
        )


@pytest.mark.parametrize("api", ["fleet", "runtime", "control"])
@pytest.mark.parametrize(
    ("body", "headers"), [(b"hello", {}), (b"", {}), (b"raise", {}), (b"x", {"away": "1"})]
)
def test_an_answer_as_a_whole_is_the_answer_that_starlette_streams(
    monkeypatch: pytest.MonkeyPatch, api: str, body: bytes, headers: dict[str, str]
) -> None:
    def ask() -> tuple[int, list[tuple[str, str]], bytes]:
        client = TestClient(Layers(), raise_server_exceptions=False)
        got = client.post(f"/v1/{api}/do", content=body, headers=headers)
        return got.status_code, sorted(got.headers.items()), got.content

    stock = BaseHTTPMiddleware.__call__
    before = ask()
    monkeypatch.setattr(BaseHTTPMiddleware, "__call__", stock)
    servers._answer_at_once()
    assert BaseHTTPMiddleware.__call__ is not stock
    assert ask() == before


def test_no_answer_of_the_hot_apis_comes_bit_by_bit() -> None:
    for name in ("flwr.superlink.routers.fleet.router", "flwr.supercore.routers.runtime.router"):
        module = import_module(name)
        assert "StreamingResponse" not in inspect.getsource(module)
        assert "Iterator[" not in inspect.getsource(module)


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

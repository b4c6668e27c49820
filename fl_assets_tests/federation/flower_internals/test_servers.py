"""What the adapters of SuperLink and SuperNode stand on."""

import inspect
from importlib import import_module
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

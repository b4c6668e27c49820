"""A SuperLink and a SuperNode in this process, put together as Flower's own commands do it.

Two things differ. Requests for news are held until there may be some
(:mod:`fl_assets.federation.deployment.longpoll`), and the SuperNode, which sleeps 3 s when there is
no message and 0.5 s when there is no reply yet, is woken instead.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from threading import Event, Thread
from types import SimpleNamespace
from typing import Any

import uvicorn
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from flwr.common.constant import ISOLATION_MODE_PROCESS
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, TASK_TOKEN_HEADER
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.routers.runtime.tracing import RuntimeTracingMiddleware
from flwr.superlink.cli.flower_superlink import (
    SuperLinkLifespan,
    _parse_superlink_lifespan_config,
)
from flwr.superlink.main import create_app as create_superlink
from flwr.superlink.routers.control.middlewares import (
    ControlAuthenticationMiddleware,
    ControlEventLogMiddleware,
    ControlLicenseMiddleware,
    ControlSensitiveResponseMiddleware,
)
from flwr.superlink.routers.fleet.middlewares import FleetEventLogMiddleware
from flwr.superlink.routers.fleet.node_auth import NodeAuthMiddleware
from flwr.supernode.main import create_app as create_supernode
from flwr.supernode.nodestate import NodeStateFactory
from starlette.middleware import Middleware

from fl_assets.federation.deployment.longpoll import App, LongPoll, Receive, Scope, Send, Topics
from fl_assets.federation.deployment.pki import ServerFiles

# Untyped, since some of their globals are replaced.
link_main: Any = import_module("flwr.superlink.main")
node_loop: Any = import_module("flwr.supernode.start_client_internal")

_LINK = Topics(
    asks={
        "/v1/fleet/pull-messages": "messages",
        "/v1/runtime/pull-messages": "replies",
        "/v1/runtime/acquire-task": "tasks",
    },
    tells={
        "/v1/runtime/push-messages": "messages",
        "/v1/runtime/push-object": "messages",
        "/v1/fleet/push-messages": "replies",
        "/v1/fleet/push-object": "replies",
    },
    rings={"/v1/control/start-run": "tasks", "/v1/fleet/deactivate-node": "replies"},
    callers=frozenset({FLEET_HTTP_PUBLIC_KEY_HEADER.encode(), TASK_TOKEN_HEADER.encode()}),
)
_NODE = Topics(
    asks={"/v1/runtime/acquire-task": "tasks"},
    rings={"/v1/runtime/push-task-output": "replies"},
)

# What a middleware looks at, by its own code, where that is not every request.
_DOMAINS = {
    ControlSensitiveResponseMiddleware: "/v1/control/",
    ControlAuthenticationMiddleware: "/v1/control/",
    ControlLicenseMiddleware: "/v1/control/",
    ControlEventLogMiddleware: "/v1/control/",
    NodeAuthMiddleware: "/v1/fleet/",
}
# These do nothing unless a plugin or FLWR_TRACING_ENABLED says so, and neither is here.
_IDLE = {FleetEventLogMiddleware, RuntimeTracingMiddleware}

# Modules that hand what they call to another thread.
_HANDING_OVER = (
    "fastapi.dependencies.utils",
    "flwr.supercore.protobuf.routing",
    "flwr.superlink.routers.control.middlewares",
    "flwr.superlink.routers.fleet.node_auth",
)

# A client must be the one to close a connection, or it may send a request into a closed one.
_KEEP_ALIVE_SECONDS = 3600
_IDLE_SECONDS = 0.01  # the link has held the request for news before


def serve_superlink(
    files: ServerFiles, secret: Path, listen: socket.socket, database: Path | None = None
) -> None:
    """Be a SuperLink with TLS, node authentication and process isolation, until killed.

    Args:
        files: its certificate.
        secret: file with the SuperExec secret, without which nobody gets a task.
        listen: bound socket.
        database: SQLite file with its state; in memory if None.
    """
    host, port = listen.getsockname()[:2]
    sys.argv = [
        "flower-superlink",
        *("--host", host, "--port", str(port)),
        *("--ssl-ca-certfile", str(files.ca)),
        *("--ssl-certfile", str(files.certificate), "--ssl-keyfile", str(files.key)),
        "--enable-supernode-auth",
        *("--isolation", ISOLATION_MODE_PROCESS, "--superexec-auth-secret-file", str(secret)),
        "--disable-runtime-dependency-installation",
        *(() if database is None else ("--database", str(database))),
    ]
    config = _parse_superlink_lifespan_config()
    with _lean():
        app = create_superlink(config, SuperLinkLifespan)
    _Server(LongPoll(app, _LINK), files).run(sockets=[listen])


def run_supernode(
    superlink: str,
    ca: bytes,
    key: Path,
    secret: bytes,
    config: Mapping[str, str],
    listen: socket.socket,
) -> None:
    """Be a SuperNode with process isolation, until killed.

    Args:
        superlink: ``host:port`` of the SuperLink.
        ca: certificates of its authority, PEM.
        key: file with the private key that the node was registered with.
        secret: of the SuperExec, without which nobody gets a task.
        config: the node's, as its app sees it.
        listen: bound socket, for the executor.
    """
    private = load_ssh_private_key(key.read_bytes(), None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    states = NodeStateFactory(ObjectStoreFactory())
    app = create_supernode(states, secret)
    replied = Event()
    server = _Server(LongPoll(app, _NODE, {"replies": replied.set}))
    Thread(target=server.run, kwargs={"sockets": [listen]}, daemon=True).start()
    with _woken(replied, lambda: server.ring("tasks")):
        node_loop.start_client_internal(
            state_factory=states,
            server_address=superlink,
            node_config=dict(config),
            root_certificates=ca,
            insecure=False,
            authentication_keys=(private, private.public_key()),
            isolation=ISOLATION_MODE_PROCESS,
            runtime_api_address="{}:{}".format(*listen.getsockname()[:2]),
            superexec_auth_secret=secret,
        )


async def _here(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return function(*args, **kwargs)


def _stay_in_the_loop() -> None:
    """Have handlers run in the server's own thread.

    They work on dictionaries in memory, which takes less time than to hand them to another one.
    """
    for module in _HANDING_OVER:
        vars(import_module(module))["run_in_threadpool"] = _here


@contextmanager
def _lean() -> Iterator[None]:
    """Have middleware entered only by requests that it does something about.

    Each layer costs a request as much as its handler does, and there are nine.
    """
    stock = link_main._get_middleware

    def lean() -> list[Middleware]:
        return [
            Middleware(_OnlyFor, prefix=_DOMAINS[m.cls], inner=m) if m.cls in _DOMAINS else m
            for m in stock()
            if m.cls not in _IDLE
        ]

    link_main._get_middleware = lean
    try:
        yield
    finally:
        link_main._get_middleware = stock


class _OnlyFor:
    """An ASGI middleware that is in the way of some paths only."""

    def __init__(self, app: App, prefix: str, inner: Middleware) -> None:
        self._prefix = prefix
        self._app = app
        self._inner: App = inner.cls(app, *inner.args, **inner.kwargs)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        inside = scope["type"] == "http" and scope["path"].startswith(self._prefix)
        await (self._inner if inside else self._app)(scope, receive, send)


@contextmanager
def _woken(replied: Event, received: Callable[[], None]) -> Iterator[None]:
    """Have the node's loop wait for what it waits for, and tell when a message is complete.

    Args:
        replied: set when the executor has handed in a reply.
        received: called with each message that is there with all its parts.
    """
    connect = node_loop.http_request_response

    def sleep(seconds: float) -> None:
        replied.wait(_IDLE_SECONDS if seconds > 1 else seconds)
        replied.clear()

    @contextmanager
    def connected(*args: Any) -> Iterator[tuple[Any, ...]]:
        with connect(*args) as (*functions, confirm):

            def confirmed(run_id: int, message_id: str) -> None:
                confirm(run_id, message_id)
                received()

            yield (*functions, confirmed)

    stock = node_loop.time
    node_loop.time, node_loop.http_request_response = SimpleNamespace(sleep=sleep), connected
    try:
        yield
    finally:
        node_loop.time, node_loop.http_request_response = stock, connect


class _Server(uvicorn.Server):
    """Serves an API whose topics can be rung from other threads."""

    def __init__(self, api: LongPoll, tls: ServerFiles | None = None) -> None:
        _stay_in_the_loop()
        self._api = api
        self._loop: asyncio.AbstractEventLoop | None = None
        super().__init__(
            uvicorn.Config(
                api,
                access_log=False,
                proxy_headers=False,
                log_level="warning",
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                ssl_certfile=None if tls is None else tls.certificate,
                ssl_keyfile=None if tls is None else tls.key,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        # All that was imported stays, so that it need not be looked through again and again.
        gc.collect()
        gc.freeze()
        await super().startup(sockets)

    def ring(self, topic: str) -> None:
        # Before it has started nobody waits.
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._api.ring, topic)

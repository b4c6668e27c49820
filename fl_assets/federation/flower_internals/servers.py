"""A SuperLink and a SuperNode in this process, put together as Flower's own commands do it.

Two things differ. Requests for news are held until there may be some
(:mod:`fl_assets.federation.deployment.longpoll`), and the SuperNode's loop is mended
(:mod:`fl_assets.federation.flower_internals.node_loop`).
"""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from threading import Event, Thread
from typing import Any

import uvicorn
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from flwr.common.constant import ISOLATION_MODE_PROCESS
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, TASK_TOKEN_HEADER
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.superlink.cli.flower_superlink import (
    SuperLinkLifespan,
    _parse_superlink_lifespan_config,
)
from flwr.superlink.main import create_app as create_superlink
from flwr.supernode.main import create_app as create_supernode
from flwr.supernode.nodestate import NodeStateFactory
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import Response

from fl_assets.federation.deployment.longpoll import Event as AsgiEvent
from fl_assets.federation.deployment.longpoll import LongPoll, Receive, Scope, Send, Topics
from fl_assets.federation.deployment.pki import ServerFiles
from fl_assets.federation.flower_internals import node_loop

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

# The APIs of sites and executors; the Control API streams logs.
_WHOLE = ("/v1/fleet/", "/v1/runtime/")

# Modules that hand what they call to another thread.
_HANDING_OVER = (
    "fastapi.dependencies.utils",
    "flwr.supercore.protobuf.routing",
    "flwr.superlink.routers.control.middlewares",
    "flwr.superlink.routers.fleet.node_auth",
)

# A client must be the one to close a connection, or it may send a request into a closed one.
_KEEP_ALIVE_SECONDS = 3600


def serve_superlink(
    files: ServerFiles,
    secret: Path,
    listen: Sequence[socket.socket],
    database: Path | None = None,
) -> None:
    """Be a SuperLink with TLS, node authentication and process isolation, until killed.

    Args:
        files: its certificate.
        secret: file with the SuperExec secret, without which nobody gets a task.
        listen: bound sockets.
        database: SQLite file with its state; in memory if None.
    """
    host, port = listen[0].getsockname()[:2]
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
    app = create_superlink(config, SuperLinkLifespan)
    _Server(LongPoll(app, _LINK), files).run(sockets=list(listen))


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
    with node_loop.mended(states.state(), replied, lambda: server.ring("tasks")):
        node_loop.stock.start_client_internal(
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


def _answer_at_once() -> None:
    """Have Starlette's middleware pass on an answer as a whole.

    It makes a task and two streams per layer and request, for answers that come bit by bit, and
    the SuperLink has nine layers. Nothing that a site or an executor asks for does.
    """
    stock = BaseHTTPMiddleware.__call__

    async def call(self: BaseHTTPMiddleware, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(_WHOLE):
            await stock(self, scope, receive, send)
            return

        async def call_next(_: Request) -> Response:
            events: list[AsgiEvent] = []

            async def collect(event: AsgiEvent) -> None:
                events.append(event)

            await self.app(scope, receive, collect)
            content = b"".join(event.get("body", b"") for event in events)
            response = Response(content, events[0]["status"])
            response.raw_headers = list(events[0]["headers"])
            return response

        response = await self.dispatch_func(Request(scope, receive), call_next)
        await response(scope, receive, send)

    BaseHTTPMiddleware.__call__ = call  # type: ignore[method-assign]


class _Server(uvicorn.Server):
    """Serves an API whose topics can be rung from other threads."""

    def __init__(self, api: LongPoll, tls: ServerFiles | None = None) -> None:
        _stay_in_the_loop()
        _answer_at_once()
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

"""The API server over HTTPS."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import sys
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from fl_assets.federation.deployment.pki import LOOPBACK, ServerFiles
from fl_assets_tests.cluster.fakekube import protobuf
from fl_assets_tests.cluster.fakekube.access import Access, Caller
from fl_assets_tests.cluster.fakekube.api import Api
from fl_assets_tests.cluster.fakekube.discovery import document
from fl_assets_tests.cluster.fakekube.errors import ApiError
from fl_assets_tests.cluster.fakekube.kinds import Manifest
from fl_assets_tests.cluster.fakekube.kubelet import Kubelet
from fl_assets_tests.cluster.fakekube.targets import Target, parse
from fl_assets_tests.cluster.fakekube.verbs import Answer, Verbs


@dataclass(frozen=True)
class Request:
    """A request that was asked of the API, allowed or not.

    Attributes:
        verb: as RBAC names it, such as ``deletecollection``.
        resource: with its subresource, such as ``pods/log``.
        namespace: empty for all namespaces and for what has none.
        name: of the object, also where a list is narrowed to one; empty for collections.
        account: of the caller, as ``namespace/name``; ``admin`` for the administrator.
        code: HTTP status of the answer.
    """

    verb: str
    resource: str
    namespace: str
    name: str
    account: str
    code: int


class HttpServer(ThreadingHTTPServer):
    """Serves an API on a free port of this machine."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        api: Api,
        access: Access,
        kubelet: Kubelet,
        requests: list[Request],
        files: ServerFiles,
    ) -> None:
        super().__init__((LOOPBACK, 0), Handler)
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._tls.load_cert_chain(files.certificate, files.key)
        self.access = access
        self.verbs = Verbs(api, access, kubelet)
        self.requests = requests
        self.url = f"https://{LOOPBACK}:{self.server_port}"

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection, whose handshake is its own thread's."""
        plain, address = super().get_request()
        secure = self._tls.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
        return secure, address

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that break off; anything else is a mistake of this server."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def close(self) -> None:
        """Stop serving; the requests under way end with the store."""
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    """Reads requests and writes answers."""

    server: HttpServer
    protocol_version = "HTTP/1.1"
    # Else every answer waits for the client's delayed acknowledgement.
    disable_nagle_algorithm = True

    def log_message(self, *args: object) -> None:
        """Say nothing on the standard error stream."""

    def do_GET(self) -> None:
        """Answer any request."""
        # The client may be gone before the answer, above all a watcher.
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            try:
                self._answer()
            except ApiError as error:
                self._reply(error.code, error.body())

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815

    def _answer(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        found = document(self.path.partition("?")[0]) if self.command == "GET" else None
        if found:
            self._reply(200, found)
            return
        caller = self.server.access.caller(self.headers.get("Authorization"))
        content_type = self.headers.get("Content-Type", "")
        body = _decoded(data, content_type)
        target = parse(self.command, self.path, body, content_type)
        try:
            self.server.access.check(caller, target.action)
            answer = self.server.verbs.perform(target, caller)
        except ApiError as error:
            self._record(target, caller, error.code)
            raise
        self._record(target, caller, answer.code)
        if answer.stream is None:
            self._reply(answer.code, answer.body)
        else:
            self._send(answer)

    def _record(self, target: Target, caller: Caller, code: int) -> None:
        action = target.action
        account = f"{caller.namespace}/{caller.name}".removeprefix("/")
        namespace = action.namespace or ""
        self.server.requests.append(
            Request(action.verb, action.resource, namespace, action.name, account, code)
        )

    def _reply(self, code: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.code)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for chunk in answer.stream or ():
            # An empty one is there to notice that the client is gone; as a chunk it would end all.
            if chunk:
                self.wfile.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")


def _decoded(data: bytes, content_type: str) -> Manifest:
    if content_type == protobuf.CONTENT_TYPE:
        return protobuf.access_review(data)
    try:
        body = json.loads(data or b"{}")
    except ValueError:
        raise ApiError(400, "the body is not JSON") from None
    if not isinstance(body, dict):
        raise ApiError(415, "fakekube takes a JSON object; it has no JSON patches")
    return body

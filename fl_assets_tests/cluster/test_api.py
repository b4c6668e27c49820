"""What the calls make of an API server that is not at its best."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from kubernetes.client import ApiClient, Configuration

from fl_assets.cluster import api as module
from fl_assets.cluster.api import ClusterApi, ClusterApiError

EMPTY = {"kind": "JobList", "apiVersion": "batch/v1", "metadata": {}, "items": []}


class Shaky(HTTPServer):
    """Answers with the codes that it is told to, one after the other."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.codes: list[int] = []
        self.asked = 0


class Handler(BaseHTTPRequestHandler):
    server: Shaky

    def do_GET(self) -> None:
        self.server.asked += 1
        code = self.server.codes.pop(0)
        status = {"kind": "Status", "message": f"said with {code}", "code": code}
        body = json.dumps(EMPTY if code == 200 else status).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shaky]:
    monkeypatch.setattr(module, "_FIRST_PAUSE", 0.001)
    shaky = Shaky()
    thread = threading.Thread(target=shaky.serve_forever, args=(0.01,))
    thread.start()
    yield shaky
    shaky.shutdown()
    thread.join()
    shaky.server_close()


def client(port: int) -> ClusterApi:
    return ClusterApi(ApiClient(Configuration(host=f"http://127.0.0.1:{port}")))


def test_a_server_that_recovers_is_waited_for(server: Shaky) -> None:
    server.codes = [503, 500, 429, 200]
    assert client(server.server_port).jobs("one", "a=b") == []
    assert server.asked == 4


def test_a_server_that_does_not_recover_is_given_up_with_its_words(server: Shaky) -> None:
    server.codes = [503] * 20
    with pytest.raises(ClusterApiError, match="did not list jobs in namespace one: said with 503"):
        client(server.server_port).jobs("one", "a=b")
    assert 1 < server.asked < 20


@pytest.mark.parametrize("code", [401, 403, 404])
def test_what_would_be_refused_again_is_not_asked_again(server: Shaky, code: int) -> None:
    server.codes = [code] * 20
    with pytest.raises(ClusterApiError, match=f"said with {code}; ") as caught:
        client(server.server_port).jobs("one", "a=b")
    assert caught.value.status == code
    assert server.asked == 1


def test_a_server_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_PAUSE", 0.001)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(ClusterApiError, match=r"can be reached, and try again") as caught:
            client(port).jobs("one", "a=b")
    assert caught.value.status is None
    assert str(port) in str(caught.value)

"""What the calls make of an API server that is not at its best."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from kubernetes.client import ApiClient, Configuration

from fl_assets.cluster import api as module
from fl_assets.cluster.api import ClusterApi, ClusterApiError, Manifest

EMPTY = {"kind": "JobList", "apiVersion": "batch/v1", "metadata": {}, "items": []}


LOST, SILENT = 0, -1


class Shaky(ThreadingHTTPServer):
    """Answers with the codes that it is told to, one after the other.

    ``LOST`` does what is asked for and breaks off, ``SILENT`` says nothing and does not break off.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.codes: list[int] = []
        self.asked = 0
        self.made: dict[str, bytes] = {}
        self.closing = threading.Event()


class Handler(BaseHTTPRequestHandler):
    server: Shaky

    def do_GET(self) -> None:
        kept = self.server.made.get(self.path.rpartition("/")[2])
        self._answer(kept if kept and self.server.codes[0] == 200 else None)

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers["Content-Length"]))
        name = json.loads(sent)["metadata"]["name"]
        if name in self.server.made:
            self.server.codes[0] = 409
        self.server.made.setdefault(name, sent)
        self._answer(sent)

    def _answer(self, found: bytes | None) -> None:
        self.server.asked += 1
        code = self.server.codes.pop(0)
        if code == SILENT:
            self.server.closing.wait()
        if code in (LOST, SILENT):
            self.close_connection = True
            return
        status = {"kind": "Status", "message": f"said with {code}", "code": code}
        body = (
            found
            if found and code == 200
            else json.dumps(EMPTY if code == 200 else status).encode()
        )
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
    shaky.closing.set()
    shaky.shutdown()
    thread.join()
    shaky.server_close()


def client(port: int) -> ClusterApi:
    configuration = Configuration(host=f"http://127.0.0.1:{port}")
    configuration.retries = False
    return ClusterApi(ApiClient(configuration))


def named(kind: str) -> Manifest:
    return {"kind": kind, "metadata": {"name": "fl-run-1", "namespace": "one", "uid": "u"}}


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


def test_a_server_that_takes_a_request_and_says_nothing_is_not_waited_for(
    server: Shaky, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_TIMEOUT", (0.2, 0.2))
    server.codes = [SILENT, 200]
    assert client(server.server_port).jobs("one", "a=b") == []
    server.codes = [SILENT] * 20
    with pytest.raises(ClusterApiError, match=r"did not list jobs in namespace one: .*timed out"):
        client(server.server_port).jobs("one", "a=b")


@pytest.mark.parametrize("kind", ["Job", "Service", "Secret"])
def test_what_an_attempt_has_made_whose_answer_was_lost_is_its_own(
    server: Shaky, kind: str
) -> None:
    server.codes = [LOST, 200, 200]
    assert client(server.server_port).create(named(kind))["metadata"]["uid"] == "u"
    # A Secret may be read by nobody.
    assert server.codes == ([200] if kind == "Secret" else [])


def test_what_was_there_before_the_first_attempt_is_somebody_elses(server: Shaky) -> None:
    server.made["fl-run-1"] = b"{}"
    server.codes = [200]
    with pytest.raises(ClusterApiError, match="did not create Job fl-run-1 in namespace one"):
        client(server.server_port).create(named("Job"))

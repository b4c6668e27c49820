"""Small HTTP servers that misbehave the way S3 and networks do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from urllib.parse import parse_qs, urlsplit


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def handle_any(self) -> None:
        raise NotImplementedError

    def do_GET(self) -> None:
        self.handle_any()

    def do_POST(self) -> None:
        self.handle_any()

    def do_PUT(self) -> None:
        self.handle_any()

    def do_HEAD(self) -> None:
        self.handle_any()

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response_only(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Yield the URL of a server that runs in a thread."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def refusing_s3(status: int, code: str, message: str = "as S3 puts it") -> Iterator[str]:
    """An S3 whose bucket keeps versions, and that answers everything else with an error."""

    class Refusing(Handler):
        def handle_any(self) -> None:
            self.body()
            if urlsplit(self.path).query == "versioning":
                xml = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
                self.answer(200, xml.encode())
            else:
                xml = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
                body = b"" if self.command == "HEAD" else xml.encode()
                self.answer(status, body, {"x-amz-bucket-region": "eu-west-1"})

    with serving(Refusing) as url:
        yield url


@contextmanager
def denying_s3(listed: str) -> Iterator[str]:
    """An S3 that lists one object, and denies every request for an object, as AWS does.

    Args:
        listed: name of the object, of version 7.
    """
    versioning = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
    version = (
        f"<Version><Key>{listed}</Key><VersionId>7</VersionId><IsLatest>true</IsLatest>"
        "<LastModified>2026-01-01T00:00:00.000Z</LastModified><Size>1</Size></Version>"
    )

    class Denying(Handler):
        def handle_any(self) -> None:
            query = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
            if "versioning" in query:
                self.answer(200, versioning.encode())
            elif "versions" in query:
                found = version if listed.startswith(query["prefix"][0]) else ""
                xml = f"<ListVersionsResult>{found}</ListVersionsResult>"
                self.answer(200, xml.encode())
            else:
                xml = "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
                self.answer(403, b"" if self.command == "HEAD" else xml.encode())

    with serving(Denying) as url:
        yield url


@contextmanager
def flaky_proxy(target: str, faults: dict[str, int]) -> Iterator[str]:
    """A proxy that breaks off the answers to object requests.

    Args:
        target: URL to forward to.
        faults: how many answers of each method still break off; counted down. A PUT loses its
            answer, although it was carried out; a GET gets half of it.
    """

    class Flaky(Handler):
        def handle_any(self) -> None:
            upstream = HTTPConnection(urlsplit(target).netloc)
            upstream.request(self.command, self.path, self.body(), dict(self.headers.items()))
            response = upstream.getresponse()
            body = response.read()
            upstream.close()
            headers = {k: v for k, v in response.getheaders() if k != "Connection"}
            if "versioning" in self.path or not faults.get(self.command):
                self.answer(response.status, body, headers)
                return
            faults[self.command] -= 1
            self.close_connection = True
            if self.command == "GET":
                whole = {**headers, "Content-Length": str(len(body))}
                self.answer(response.status, body[: len(body) // 2], whole)

    with serving(Flaky) as url:
        yield url


@contextmanager
def short_sessions(target: str, saw: Callable[[bytes], None]) -> Iterator[str]:
    """A proxy to an STS server whose sessions end so soon that a client must renew them.

    Args:
        target: URL to forward to.
        saw: told the body of every request.
    """

    class Short(Handler):
        def handle_any(self) -> None:
            request = self.body()
            saw(request)
            upstream = HTTPConnection(urlsplit(target).netloc)
            upstream.request(self.command, self.path, request, dict(self.headers.items()))
            response = upstream.getresponse()
            body = response.read().decode()
            upstream.close()
            soon = f"{datetime.now(UTC) + timedelta(minutes=5):%Y-%m-%dT%H:%M:%SZ}"
            body = re.sub("(?<=<Expiration>)[^<]*", soon, body)
            self.answer(response.status, body.encode(), {"Content-Type": "text/xml"})

    with serving(Short) as url:
        yield url


@contextmanager
def stalling_proxy(target: str, part: int, stalled: Event, requests: list[str]) -> Iterator[str]:
    """A proxy that swallows the first upload of a part, and lets its sender wait for the answer.

    Args:
        target: URL to forward to.
        part: number in a multipart upload.
        stalled: set when it has come.
        requests: method and query of every request.
    """
    over = Event()

    class Stalling(Handler):
        def handle_any(self) -> None:
            query, body = urlsplit(self.path).query, self.body()
            requests.append(f"{self.command} {query}")
            if not stalled.is_set() and f"partNumber={part}" in query.split("&"):
                stalled.set()
                over.wait()
                return
            upstream = HTTPConnection(urlsplit(target).netloc)
            upstream.request(self.command, self.path, body, dict(self.headers.items()))
            response = upstream.getresponse()
            answer = response.read()
            upstream.close()
            self.answer(response.status, answer, dict(response.getheaders()))

    with serving(Stalling) as url:
        try:
            yield url
        finally:
            over.set()

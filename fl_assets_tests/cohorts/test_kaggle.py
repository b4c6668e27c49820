"""The download, against a server that plays Kaggle's API."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import socket
import traceback
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from fl_assets.cohorts.kaggle import (
    KaggleCredentialsMissingError,
    KaggleCredentialsRefusedError,
    KaggleDownloadError,
    download,
)

HANDLE, FILE = "someone/some-data", "some data.csv"
CONTENT = b"id,age\n" + b"1,50\n" * 1000
KEY = "kaggle-key-not-to-be-printed"
API = "/api/v1/datasets.DatasetApiService"


@dataclass
class FakeKaggle:
    """What the server answers, and what it was asked.

    It is asked as a proxy: the client has no setting for the address of the API but the name of
    an environment, of which LOCALHOST is port 80.
    """

    url: str = ""
    status: int = 200
    content: bytes = CONTENT
    stored_as: str = "some%20data.csv"
    hash_header: str | None = None
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    logins: set[str | None] = field(default_factory=set)


@pytest.fixture
def kaggle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKaggle]:
    fake = FakeKaggle()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            call = self.path.removeprefix(f"http://localhost{API}/")
            fake.asked.append(("POST", call, request))
            fake.logins.add(self.headers["Authorization"])
            if fake.status != 200:
                body = json.dumps({"code": fake.status, "message": "no"}).encode()
                self.answer(fake.status, body, {"Content-Type": "application/json"})
            elif call == "GetDataset":
                body = json.dumps({"currentVersionNumber": 3}).encode()
                self.answer(200, body, {"Content-Type": "application/json"})
            else:
                where = f"http://storage.invalid/bucket/{fake.stored_as}"
                self.answer(302, b"", {"Location": where})

        def do_GET(self) -> None:
            fake.asked.append(("GET", self.path, {}))
            headers = {"X-Goog-Hash": f"md5={fake.hash_header}"} if fake.hash_header else {}
            self.answer(200, fake.content, {**headers, "Content-Type": "application/octet-stream"})

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("http_proxy", fake.url)
    yield fake
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory without anything of Kaggle's in it."""
    home = tmp_path / "home"
    home.mkdir()
    for name in ("KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_API_TOKEN", "KAGGLE_KERNEL_RUN_TYPE",
                 "no_proxy", "NO_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy",
                 "ALL_PROXY"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(home / ".kaggle"))
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")
    return home


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAGGLE_USERNAME", "someone")
    monkeypatch.setenv("KAGGLE_KEY", KEY)


BASIC = "Basic " + base64.b64encode(f"someone:{KEY}".encode()).decode()


def test_download(kaggle: FakeKaggle, credentials: None, tmp_path: Path) -> None:
    assert download(HANDLE, FILE) == CONTENT
    calls = [call for _, call, _ in kaggle.asked]
    assert calls == [
        "GetDataset",
        "DownloadDataset",
        "http://storage.invalid/bucket/some%20data.csv",
    ]
    wanted = {"ownerSlug": "someone", "datasetSlug": "some-data"}
    assert kaggle.asked[0][2] == wanted
    assert kaggle.asked[1][2] == {**wanted, "datasetVersionNumber": 3, "fileName": FILE}
    assert kaggle.logins == {BASIC}

    assert download(HANDLE, FILE) == CONTENT
    assert [call for _, call, _ in kaggle.asked[3:]] == ["GetDataset"], "the cache was not used"


def test_a_file_that_kaggle_zipped_is_unpacked(kaggle: FakeKaggle, credentials: None) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("plain.csv", CONTENT)
    kaggle.content, kaggle.stored_as = archive.getvalue(), "plain.csv.zip"
    assert download(HANDLE, "plain.csv") == CONTENT


def in_kaggle_json(home: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (home / ".kaggle").mkdir()
    (home / ".kaggle" / "kaggle.json").write_text(json.dumps({"username": "someone", "key": KEY}))
    return BASIC


def in_token_variable(home: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("KAGGLE_API_TOKEN", KEY)
    return f"Bearer {KEY}"


def in_token_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (home / ".kaggle").mkdir()
    (home / ".kaggle" / "access_token").write_text(KEY + "\n")
    return f"Bearer {KEY}"


@pytest.mark.parametrize("place", [in_kaggle_json, in_token_variable, in_token_file])
def test_credentials_are_found_where_kaggle_puts_them(
    kaggle: FakeKaggle,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: Callable[[Path, pytest.MonkeyPatch], str],
) -> None:
    login = place(home, monkeypatch)
    assert download(HANDLE, FILE) == CONTENT
    assert kaggle.logins == {login}


def test_without_credentials_nothing_is_asked(kaggle: FakeKaggle) -> None:
    with pytest.raises(KaggleCredentialsMissingError) as caught:
        download(HANDLE, FILE)
    for cure in ("https://www.kaggle.com/settings/api", "~/.kaggle", "kaggle.json", "DATA=path"):
        assert cure in str(caught.value)
    assert kaggle.asked == []


@pytest.mark.parametrize("text", ["", "{not json", '{"username": "someone"}'])
def test_a_broken_kaggle_json_is_named(kaggle: FakeKaggle, home: Path, text: str) -> None:
    (home / ".kaggle").mkdir()
    (home / ".kaggle" / "kaggle.json").write_text(text)
    with pytest.raises(KaggleCredentialsMissingError, match=r"home/\.kaggle/kaggle\.json"):
        download(HANDLE, FILE)
    assert kaggle.asked == []


def test_a_token_taken_for_a_file_name_is_not_printed(
    kaggle: FakeKaggle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAGGLE_API_TOKEN", KEY * 20)
    with pytest.raises(KaggleCredentialsMissingError) as caught:
        download(HANDLE, FILE)
    assert KEY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("status", [401, 403])
def test_wrong_credentials(
    kaggle: FakeKaggle, credentials: None, status: int, capfd: pytest.CaptureFixture[str]
) -> None:
    kaggle.status = status
    with pytest.raises(KaggleCredentialsRefusedError, match=f"HTTP {status}.*renew") as caught:
        download(HANDLE, FILE)
    printed = "".join((*traceback.format_exception(caught.value), *capfd.readouterr()))
    assert KEY not in printed
    assert BASIC.removeprefix("Basic ") not in printed


@pytest.mark.parametrize("status", [404, 500])
def test_kaggle_fails(kaggle: FakeKaggle, credentials: None, status: int) -> None:
    kaggle.status = status
    with pytest.raises(KaggleDownloadError, match=f"{HANDLE}, {FILE}.*HTTP {status}") as caught:
        download(HANDLE, FILE)
    assert type(caught.value) is KaggleDownloadError


def test_kaggle_cannot_be_reached(credentials: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed.getsockname()[1]}")
        with pytest.raises(KaggleDownloadError, match="check network") as caught:
            download(HANDLE, FILE)
    assert KEY not in "".join(traceback.format_exception(caught.value))


def test_a_corrupted_download_is_refused(kaggle: FakeKaggle, credentials: None) -> None:
    kaggle.hash_header = base64.b64encode(hashlib.md5(b"other").digest()).decode()
    with pytest.raises(KaggleDownloadError, match="DataCorruptionError"):
        download(HANDLE, FILE)
    kaggle.hash_header = base64.b64encode(hashlib.md5(CONTENT).digest()).decode()
    assert download(HANDLE, FILE) == CONTENT


def test_an_empty_download_is_refused(kaggle: FakeKaggle, credentials: None) -> None:
    kaggle.content = b""
    with pytest.raises(KaggleDownloadError, match="empty"):
        download(HANDLE, FILE)

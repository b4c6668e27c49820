from __future__ import annotations

from pathlib import Path

import pytest

from fl_assets.storage import FolderStore, open_store
from fl_assets.storage.base import BadKeyError
from fl_assets.storage.opening import BadStoreUriError
from fl_assets.storage.s3 import S3Store


@pytest.mark.parametrize("name", ["plain", "a b", "größe 数据", "100% #1?x", "a%20b"])
def test_a_folder_uri_round_trips(tmp_path: Path, name: str) -> None:
    store = FolderStore(tmp_path / name)
    store.put("a", b"1")
    again = open_store(store.uri)
    assert again.uri == store.uri
    assert again.get("a") == b"1"
    assert (tmp_path / name / "a").read_bytes() == b"1"
    assert store.uri.isascii()
    assert " " not in store.uri


def test_a_relative_folder_gets_an_absolute_uri(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert FolderStore(Path("x")).uri == (tmp_path.resolve() / "x").as_uri()


@pytest.mark.parametrize(
    "uri", ["s3://bucket", "s3://bucket/hospital 1/größe", "s3://bucket/what?is#this%20"]
)
def test_a_bucket_uri_round_trips(uri: str) -> None:
    store = open_store(uri)
    assert isinstance(store, S3Store)
    assert store.uri == uri
    assert open_store(uri + "/").uri == uri


@pytest.mark.parametrize(
    "uri",
    ["", "/a/folder", "folder", "s3://", "s3:///prefix", "file://", "file:///", "file:relative",
     "file://server/share", "gs://bucket", "http://host/x", "S3//bucket"],
)  # fmt: skip
def test_anything_else_is_refused(uri: str) -> None:
    with pytest.raises(BadStoreUriError, match="use file:///"):
        open_store(uri)


def test_a_prefix_must_be_a_key() -> None:
    with pytest.raises(BadKeyError):
        open_store("s3://bucket/../other")

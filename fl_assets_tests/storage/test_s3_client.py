"""Sessions of a role, and the key that objects are encrypted with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from fl_assets.storage import Access, SiteStore, multipart, open_store
from fl_assets.storage.s3_client import make_client
from fl_assets.storage.s3_errors import CredentialsMissingError
from fl_assets_tests.storage.servers import short_sessions

pytestmark = pytest.mark.services

ROLE = "arn:aws:iam::123456789012:role/fla-hospital-a"
KEY = "arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"

MakeBucket = Callable[..., str]


@pytest.fixture
def assumed(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The AssumeRole requests that moto got; its sessions end within minutes."""
    seen: list[dict[str, list[str]]] = []
    with short_sessions(s3_endpoint, lambda body: seen.append(parse_qs(body.decode()))) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", url)
        yield seen


def test_a_role_is_taken_at_the_first_request_and_again_before_it_ends(
    assumed: list[dict[str, list[str]]], make_bucket: MakeBucket
) -> None:
    access = Access(role=ROLE, session="fl-assets-hospital-a")
    store = open_store(f"s3://{make_bucket()}", access)
    assert assumed == []
    store.put("a", b"1")
    assert store.get("a") == b"1"
    # One request each for versioning, put and get, all of them with a session about to end.
    assert [(one["RoleArn"], one["RoleSessionName"]) for one in assumed] == [
        ([ROLE], ["fl-assets-hospital-a"])
    ] * 3


def test_without_a_role_nobody_asks_for_one(
    assumed: list[dict[str, list[str]]], make_bucket: MakeBucket
) -> None:
    open_store(f"s3://{make_bucket()}", Access(session="fl-assets-hospital-a")).put("a", b"1")
    assert assumed == []


def test_a_role_needs_somebody_to_take_it(
    s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(CredentialsMissingError, match="AWS_PROFILE"):
        open_store("s3://bucket", Access(role=ROLE))


def test_the_region_is_the_consortiums(s3_endpoint: str) -> None:
    assert make_client(Access(region="eu-west-3")).meta.region_name == "eu-west-3"
    assert make_client(Access()).meta.region_name == "eu-central-1"


@pytest.mark.parametrize("way", ["put", "put_if_absent", "put_file", "put_file in parts"])
def test_every_write_names_the_key(
    make_bucket: MakeBucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(multipart, "PART", 5 * 2**20)
    file = tmp_path / "file"
    file.write_bytes(b"x" * (5 * 2**20 + 1 if way.endswith("parts") else 1))
    bucket = make_bucket()
    ways: dict[str, Callable[[SiteStore], object]] = {
        "put": lambda store: store.put("a", b"1"),
        "put_if_absent": lambda store: store.put_if_absent("a", b"1"),
        "put_file": lambda store: store.put_file("a", file),
        "put_file in parts": lambda store: store.put_file("a", file),
    }
    for access, key in ((Access(kms_key=KEY), KEY), (Access(), None)):
        store = open_store(f"s3://{bucket}", access)
        ways[way](store)
        found = make_client(access).head_object(Bucket=bucket, Key="a")
        assert found.get("SSEKMSKeyId") == key
        assert store.purge("a") == 1

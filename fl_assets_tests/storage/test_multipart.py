"""What an upload in parts sends, takes up and gives up; moto lists parts as S3 does."""

from __future__ import annotations

import base64
import hashlib
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from fl_assets.storage import multipart
from fl_assets.storage.multipart import UploadTakenOverError
from fl_assets.storage.s3 import S3Store
from fl_assets_tests.storage.s3_servers import S3Server

MIB = 2**20
KEY = "incoming/a.csv"
SIZE = 12 * MIB

MakeBucket = Callable[..., str]


class Sent:
    """The requests of a store's client, by operation.

    Args:
        bucket: of the store.
    """

    def __init__(self, bucket: str) -> None:
        import boto3

        self.client: Any = boto3.client("s3")
        self.store = S3Store(bucket, client=self.client)
        self.operations: list[str] = []
        self.client.meta.events.register("before-call.s3", self._note)

    def _note(self, model: Any, **_: object) -> None:
        self.operations.append(model.name)

    def count(self, operation: str) -> int:
        return self.operations.count(operation)


@pytest.fixture
def sent(make_bucket: MakeBucket, monkeypatch: pytest.MonkeyPatch) -> Sent:
    monkeypatch.setattr(multipart, "PART", 5 * MIB)
    return Sent(make_bucket())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.csv"
    path.write_bytes(bytes(range(256)) * (SIZE // 256))
    return path


def break_off(sent: Sent, file: Path, parts: int) -> None:
    """End an upload when so many parts are there."""

    def progress(done: int) -> None:
        if done >= parts * 5 * MIB:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        sent.store.put_file(KEY, file, progress)
    sent.operations.clear()


@pytest.mark.services
@pytest.mark.faults
@pytest.mark.parametrize("there", [1, 2])
def test_parts_that_are_there_are_not_sent_again(sent: Sent, file: Path, there: int) -> None:
    break_off(sent, file, there)
    sent.store.put_file(KEY, file)
    assert sent.count("UploadPart") == 3 - there
    assert sent.count("CreateMultipartUpload") == 0
    assert sent.store.get(KEY) == file.read_bytes()
    assert "Uploads" not in sent.client.list_multipart_uploads(Bucket=_bucket(sent))


@pytest.mark.services
@pytest.mark.faults
def test_what_is_superseded_is_aborted(sent: Sent, file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_bytes(b"x" * SIZE)
    break_off(sent, other, 1)
    # Without a part it may be of any file; and a longer key is none of this upload's business.
    for key in (KEY, f"{KEY}.gz"):
        sent.client.create_multipart_upload(Bucket=_bucket(sent), Key=key)
    sent.operations.clear()
    sent.store.put_file(KEY, file)
    assert (sent.count("UploadPart"), sent.count("AbortMultipartUpload")) == (3, 2)
    (left,) = sent.client.list_multipart_uploads(Bucket=_bucket(sent))["Uploads"]
    assert left["Key"] == f"{KEY}.gz"


@pytest.mark.services
@pytest.mark.faults
def test_an_upload_that_another_ended_says_so(
    seaweed: S3Server, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Moto fails on a part of an upload that is gone.
    monkeypatch.setattr(multipart, "PART", 5 * MIB)
    sent = Sent(seaweed.make_bucket(f"hospital-{uuid.uuid4().hex}"))
    other = tmp_path / "other.csv"
    other.write_bytes(b"x" * SIZE)

    def interfere(done: int) -> None:
        if done == 5 * MIB:
            Sent(_bucket(sent)).store.put_file(KEY, other)

    with pytest.raises(UploadTakenOverError, match="once more"):
        sent.store.put_file(KEY, file, interfere)
    assert sent.store.get(KEY) == other.read_bytes()
    assert len(sent.store.versions(KEY)) == 1


@pytest.mark.services
def test_a_small_file_is_one_request(sent: Sent, tmp_path: Path) -> None:
    (tmp_path / "small.csv").write_bytes(b"x" * 5 * MIB)
    sent.store.put_file(KEY, tmp_path / "small.csv")
    assert sent.operations == ["GetBucketVersioning", "PutObject"]


def test_a_listed_checksum_decides_and_not_the_etag() -> None:
    """AWS lists it; under SSE-KMS the ETag there is no MD5."""
    part = multipart._Part(1, b"rows")
    checksum = base64.b64encode(hashlib.sha256(b"rows").digest()).decode()
    stored = {"Size": 4, "ETag": '"any"', "ChecksumSHA256": checksum}
    assert part.equals(cast(Any, stored))
    assert not part.equals(cast(Any, {**stored, "ChecksumSHA256": "other"}))
    md5 = f'"{hashlib.md5(b"rows").hexdigest()}"'
    assert part.equals(cast(Any, {"Size": 4, "ETag": md5}))
    assert not part.equals(cast(Any, {"Size": 4, "ETag": '"any"'}))
    assert not part.equals(cast(Any, {"Size": 5, "ETag": md5}))


@pytest.mark.parametrize(
    ("size", "part"), [(1, 16 * MIB), (160_000 * MIB, 16 * MIB), (160_000 * MIB + 1, 16 * MIB + 1)]
)
def test_no_file_has_too_many_parts(size: int, part: int) -> None:
    class Source:
        pass

    source = Source()
    source.size = size  # type: ignore[attr-defined]
    assert multipart._part_size(cast(Any, source)) == part
    assert -(-size // part) <= multipart.MOST_PARTS


def _bucket(sent: Sent) -> str:
    return sent.store.uri.removeprefix("s3://")

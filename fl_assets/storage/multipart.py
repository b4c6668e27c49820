"""Uploads of large files to S3 in parts, taken up again where they broke off."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple, NotRequired, TypedDict

from fl_assets.storage.base import StorageError
from fl_assets.storage.source import SourceFile

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.literals import ServerSideEncryptionType
    from mypy_boto3_s3.type_defs import (
        CompletedPartTypeDef,
        CompleteMultipartUploadOutputTypeDef,
        PartTypeDef,
    )

PART = 16 * 2**20  # bytes; S3 takes parts of 5 MiB to 5 GiB
MOST_PARTS = 10_000


class UploadTakenOverError(StorageError):
    """Another upload of the same key, of another file, ended this one."""


class Encryption(TypedDict):
    """Arguments of a write that name its key."""

    ServerSideEncryption: NotRequired[ServerSideEncryptionType]
    SSEKMSKeyId: NotRequired[str]


class Target(NamedTuple):
    """The object that an upload becomes."""

    client: S3Client
    bucket: str
    name: str
    encryption: Encryption


class _Part(NamedTuple):
    number: int
    data: bytes

    @property
    def sha256(self) -> str:
        return base64.b64encode(hashlib.sha256(self.data).digest()).decode()

    def equals(self, stored: PartTypeDef) -> bool:
        """Tell whether a stored part has this content.

        Where a server lists no checksums, as some others than AWS do, the ETag is the MD5.
        """
        if stored["Size"] != len(self.data):
            return False
        if "ChecksumSHA256" in stored:
            return stored["ChecksumSHA256"] == self.sha256
        md5 = hashlib.md5(self.data, usedforsecurity=False).hexdigest()
        return stored["ETag"].strip('"') == md5


def upload(
    target: Target, source: SourceFile, progress: Callable[[int], None]
) -> CompleteMultipartUploadOutputTypeDef:
    """Store a file in parts; the object appears when all of them are there.

    An open upload of the same key whose parts all are of this file goes on. Others are aborted:
    what they would complete has been superseded, and S3 bills for their parts. S3 checks the hash
    of every part at its arrival, and the hash of all at the end.

    Raises:
        UploadTakenOverError: a later upload of another file to this key aborted this one.
        FileChangedError: the file was written to meanwhile.
        botocore.exceptions.ClientError: S3 refused.
    """
    client, bucket, name, _ = target
    parts: list[CompletedPartTypeDef] = []
    done = 0
    try:
        upload_id, stored = _taken_up(target, source) or (_begun(target), {})
        for part in _parts(source):
            etag = stored.get(part.number)
            if etag is None:
                etag = client.upload_part(
                    Bucket=bucket, Key=name, UploadId=upload_id, PartNumber=part.number,
                    Body=part.data, ChecksumAlgorithm="SHA256", ChecksumSHA256=part.sha256,
                )["ETag"]  # fmt: skip
            parts.append({"PartNumber": part.number, "ETag": etag, "ChecksumSHA256": part.sha256})
            done += len(part.data)
            progress(done)
        source.check_unchanged()
        return client.complete_multipart_upload(
            Bucket=bucket, Key=name, UploadId=upload_id, MultipartUpload={"Parts": parts}
        )
    except client.exceptions.NoSuchUpload as error:
        raise UploadTakenOverError(
            f"the upload of {name!r} to s3://{bucket} was ended by another upload of the same "
            "key: upload the file that is wanted once more"
        ) from error


def abort_all(target: Target) -> None:
    """End every open upload of the key, and remove its parts."""
    for upload_id in _open_uploads(target):
        _abort(target, upload_id)


def abort_under(client: S3Client, bucket: str, prefix: str) -> int:
    """End every open upload of a key that starts with ``prefix``; return how many there were."""
    pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix)
    found = [upload for page in pages for upload in page.get("Uploads", [])]
    for upload in found:
        client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    return len(found)


def _taken_up(target: Target, source: SourceFile) -> tuple[str, dict[int, str]] | None:
    """Return an open upload of this file with the ETags of its parts; abort all other uploads."""
    best: tuple[str, dict[int, str]] | None = None
    for upload_id in _open_uploads(target):
        stored = _stored(target, upload_id)
        # One without parts may just have been begun for another file.
        if best is None and stored and _all_of(stored, source):
            best = upload_id, {part["PartNumber"]: part["ETag"] for part in stored.values()}
        else:
            _abort(target, upload_id)
    return best


def _all_of(stored: dict[int, PartTypeDef], source: SourceFile) -> bool:
    size = _part_size(source)
    return all(
        _Part(number, source.read((number - 1) * size, size)).equals(part)
        for number, part in stored.items()
    )


def _begun(target: Target) -> str:
    return target.client.create_multipart_upload(
        Bucket=target.bucket, Key=target.name, ChecksumAlgorithm="SHA256", **target.encryption
    )["UploadId"]


def _abort(target: Target, upload_id: str) -> None:
    target.client.abort_multipart_upload(Bucket=target.bucket, Key=target.name, UploadId=upload_id)


def _open_uploads(target: Target) -> list[str]:
    pages = target.client.get_paginator("list_multipart_uploads")
    return [
        found["UploadId"]
        for page in pages.paginate(Bucket=target.bucket, Prefix=target.name)
        for found in page.get("Uploads", [])
        # The prefix also finds longer keys.
        if found["Key"] == target.name
    ]


def _stored(target: Target, upload_id: str) -> dict[int, PartTypeDef]:
    pages = target.client.get_paginator("list_parts")
    return {
        part["PartNumber"]: part
        for page in pages.paginate(Bucket=target.bucket, Key=target.name, UploadId=upload_id)
        for part in page.get("Parts", [])
    }


def _parts(source: SourceFile) -> Iterator[_Part]:
    size = _part_size(source)
    for number, start in enumerate(range(0, source.size, size), start=1):
        yield _Part(number, source.read(start, size))


def _part_size(source: SourceFile) -> int:
    """Equal for every call with a file of the same size, so that parts can be compared."""
    return max(PART, -(-source.size // MOST_PARTS))

"""A site bucket on S3, or on a server that speaks its protocol."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import TYPE_CHECKING, BinaryIO, NotRequired, TypedDict, cast

from fl_assets.storage.base import (
    ObjectExistsError,
    ObjectInfo,
    ObjectNotFoundError,
    check_key,
    is_key,
)
from fl_assets.storage.s3_errors import EndpointUnreachableError, VersioningOffError, explained

if TYPE_CHECKING:
    from botocore.exceptions import ClientError
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ObjectVersionTypeDef, PutObjectOutputTypeDef

ATTEMPTS = 5
IN_MEMORY = 64 * 2**20  # bytes of a stream that are held before it moves to a temporary file

WRITER = "writer"  # metadata that tells one put from another of the same bytes

# The last two: a version that is a delete marker, and a malformed version.
_ABSENT = {"NoSuchKey", "NoSuchVersion", "404", "MethodNotAllowed", "InvalidArgument"}


class _Where(TypedDict):
    Bucket: str
    Key: str
    VersionId: NotRequired[str]


class S3Store:
    """A bucket, or all keys under a prefix of it (:class:`fl_assets.storage.base.SiteStore`).

    The bucket must keep versions; that is checked once, at the first use. What the identity needs:
    ``s3:GetBucketVersioning``, ``ListBucket``, ``ListBucketVersions``, ``GetObject``,
    ``GetObjectVersion``, ``PutObject``, ``DeleteObject``.

    Args:
        bucket: its name.
        prefix: without a ``/`` at either end; put before every key.
        client: a boto3 S3 client; by default one from the default credential chain and, for other
            servers than AWS, ``AWS_ENDPOINT_URL_S3`` or ``AWS_ENDPOINT_URL``.

    Raises:
        StorageError: of a type of its own for every cause, see :mod:`fl_assets.storage.s3_errors`.
        BadKeyError: ``prefix`` could not be part of a key.
    """

    def __init__(self, bucket: str, prefix: str = "", client: S3Client | None = None) -> None:
        self._bucket = bucket
        self._prefix = f"{check_key(prefix)}/" if prefix else ""
        with explained(self.uri):
            self._unchecked_client = client or _default_client()

    def __repr__(self) -> str:
        return f"S3Store({self.uri!r})"

    @property
    def uri(self) -> str:
        """``s3://bucket`` or ``s3://bucket/prefix``, not percent-encoded."""
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def put(self, key: str, data: bytes) -> ObjectInfo:
        """Store ``data`` (at most 5 GB) as the newest version of ``key``."""
        name = self._name(key)
        with explained(self.uri):
            answer = self._client.put_object(Bucket=self._bucket, Key=name, Body=data)
        return _put_info(key, data, answer)

    def put_if_absent(self, key: str, data: bytes) -> ObjectInfo:
        """Store ``data`` unless ``key`` is taken; of racing callers exactly one succeeds.

        Raises:
            ObjectExistsError: the key is taken, or was being written or deleted by another.
        """
        from botocore.exceptions import ClientError

        name, writer = self._name(key), uuid.uuid4().hex
        with explained(self.uri):
            try:
                answer = self._client.put_object(
                    Bucket=self._bucket, Key=name, Body=data, IfNoneMatch="*",
                    Metadata={WRITER: writer},
                )  # fmt: skip
            except ClientError as error:
                if _code(error) not in {"PreconditionFailed", "ConditionalRequestConflict"}:
                    raise
                mine = self._won_before_retry(error, key, writer)
                if mine is None:
                    raise ObjectExistsError(self.uri, key) from error
                return mine
        return _put_info(key, data, answer)

    def get(self, key: str, version: str | None = None) -> bytes:
        """Return the newest version of ``key``, or the one asked for.

        Raises:
            ObjectNotFoundError: there is none.
        """
        with self.open(key, version) as stream:
            return stream.read()

    def open(self, key: str, version: str | None = None) -> BinaryIO:
        """Like :meth:`get`, as a seekable stream: in memory, or on disk above 64 MiB.

        Raises:
            ObjectNotFoundError: there is none.
        """
        from botocore.exceptions import ClientError

        where: _Where = {"Bucket": self._bucket, "Key": self._name(key)}
        if version is not None:
            where["VersionId"] = version
        stream = cast(BinaryIO, tempfile.SpooledTemporaryFile(IN_MEMORY))  # noqa: SIM115
        with explained(self.uri):
            try:
                self._download(where, stream)
            except ClientError as error:
                if _code(error) not in _ABSENT:
                    raise
                raise ObjectNotFoundError(self.uri, key, version) from error
        stream.seek(0)
        return stream

    def exists(self, key: str) -> bool:
        """Tell whether ``key`` has a current version."""
        from botocore.exceptions import ClientError

        name = self._name(key)
        with explained(self.uri):
            try:
                self._client.head_object(Bucket=self._bucket, Key=name)
            except ClientError as error:
                if _code(error) not in _ABSENT:
                    raise
                return False
        return True

    def versions(self, key: str) -> list[ObjectInfo]:
        """Return every kept version of ``key``, newest first; empty where there is none."""
        found = []
        for entry in self._entries(self._name(key)):
            info = self._info(entry)
            # The prefix also finds longer keys; S3 lists them after all versions of this one.
            if info.key != key:
                break
            found.append(info)
        return found

    def list(self, prefix: str = "") -> list[ObjectInfo]:
        """Return the current version of every key that starts with ``prefix``, by key."""
        # Of S3's listings only this one tells versions; delete markers are in a list of their own.
        entries = self._entries(self._prefix + prefix)
        found = [self._info(entry) for entry in entries if entry["IsLatest"]]
        return [info for info in found if is_key(info.key)]

    def delete(self, key: str) -> None:
        """Remove ``key`` from listings; older versions stay readable by version.

        Raises:
            ObjectNotFoundError: there is none.
        """
        if not self.exists(key):
            raise ObjectNotFoundError(self.uri, key)
        with explained(self.uri):
            self._client.delete_object(Bucket=self._bucket, Key=self._name(key))

    @cached_property
    def _client(self) -> S3Client:
        """The client, once the bucket is known to keep versions."""
        status = self._unchecked_client.get_bucket_versioning(Bucket=self._bucket).get(
            "Status", "off"
        )
        if status != "Enabled":
            raise VersioningOffError(
                f"{self.uri}: versioning is {status}; turn it on for the bucket, or "
                "overwritten objects are lost"
            )
        return self._unchecked_client

    def _name(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _info(self, entry: ObjectVersionTypeDef) -> ObjectInfo:
        key = entry["Key"].removeprefix(self._prefix)
        modified = entry["LastModified"].astimezone(UTC)
        return ObjectInfo(key, entry["Size"], entry["VersionId"], modified)

    def _entries(self, prefix: str) -> Iterator[ObjectVersionTypeDef]:
        with explained(self.uri):
            pages = self._client.get_paginator("list_object_versions")
            for page in pages.paginate(Bucket=self._bucket, Prefix=prefix):
                yield from page.get("Versions", [])

    def _download(self, where: _Where, stream: BinaryIO) -> None:
        from botocore.exceptions import HTTPClientError, IncompleteReadError

        for attempts_left in reversed(range(ATTEMPTS)):
            body = self._client.get_object(**where)["Body"]
            try:
                shutil.copyfileobj(body, stream)
                return
            except (HTTPClientError, IncompleteReadError):
                # boto3 repeats a request that failed, but not an answer that broke off.
                if not attempts_left:
                    raise
                stream.seek(0)
                stream.truncate()

    def _won_before_retry(self, error: ClientError, key: str, writer: str) -> ObjectInfo | None:
        """Return the object if it is ours: stored by a first attempt whose answer got lost."""
        if not error.response["ResponseMetadata"]["RetryAttempts"]:
            return None
        found = self._client.head_object(Bucket=self._bucket, Key=self._name(key))
        if found["Metadata"].get(WRITER) != writer:
            return None
        modified = found["LastModified"].astimezone(UTC)
        return ObjectInfo(key, found["ContentLength"], found["VersionId"], modified)


def _default_client() -> S3Client:
    import boto3
    from botocore.config import Config

    config = Config(
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        connect_timeout=5,
        read_timeout=60,
    )
    try:
        return boto3.Session().client("s3", config=config)
    except ValueError as error:
        raise EndpointUnreachableError(f"{error}: AWS_ENDPOINT_URL must be a URL") from error


def _code(error: ClientError) -> str:
    return error.response["Error"]["Code"]


def _put_info(key: str, data: bytes, answer: PutObjectOutputTypeDef) -> ObjectInfo:
    # The answer to a put does not tell LastModified; its date is the same server's clock.
    modified = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
    return ObjectInfo(key, len(data), answer["VersionId"], modified.astimezone(UTC))

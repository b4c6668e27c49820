"""A site bucket on S3, or on a server that speaks its protocol."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NotRequired, TypedDict, cast

from fl_assets.storage import locks, multipart
from fl_assets.storage.access import ANYBODY, Access
from fl_assets.storage.base import (
    ObjectExistsError,
    ObjectInfo,
    ObjectNotFoundError,
    check_key,
    is_key,
)
from fl_assets.storage.lease import leased
from fl_assets.storage.locks import Held
from fl_assets.storage.s3_client import ATTEMPTS, make_client
from fl_assets.storage.s3_errors import VersioningOffError, explained
from fl_assets.storage.source import reading

if TYPE_CHECKING:
    from botocore.exceptions import ClientError
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import (
        CompleteMultipartUploadOutputTypeDef,
        ListObjectVersionsOutputTypeDef,
        ObjectVersionTypeDef,
        PutObjectOutputTypeDef,
    )

IN_MEMORY = 64 * 2**20  # bytes of a stream that are held before it moves to a temporary file

WRITER = "writer"  # metadata that tells one put from another of the same bytes

# The last: a version that is a delete marker.
_ABSENT = {"NoSuchKey", "NoSuchVersion", "404", "MethodNotAllowed"}
_MALFORMED_VERSION = {"InvalidArgument", "InvalidRequest"}
_DENIED = {"AccessDenied", "403"}


class _Where(TypedDict):
    Bucket: str
    Key: str
    VersionId: NotRequired[str]


class S3Store:
    """A bucket, or all keys under a prefix of it (:class:`fl_assets.storage.base.SiteStore`).

    The bucket must keep versions; that is checked once, at the first use. The rights that it needs
    are in :func:`fl_assets.storage.policies.hospital_policy`.

    Args:
        bucket: its name.
        prefix: without a ``/`` at either end; put before every key.
        access: as whom, and how objects are encrypted. For other servers than AWS set
            ``AWS_ENDPOINT_URL_S3`` or ``AWS_ENDPOINT_URL``.
        client: a boto3 S3 client in place of one made for ``access``.

    Raises:
        StorageError: of a type of its own for every cause, see :mod:`fl_assets.storage.s3_errors`.
        BadKeyError: ``prefix`` could not be part of a key.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        access: Access = ANYBODY,
        client: S3Client | None = None,
    ) -> None:
        self._bucket = bucket
        self._prefix = f"{check_key(prefix)}/" if prefix else ""
        self._encryption: multipart.Encryption = {}
        if access.kms_key:
            self._encryption = {
                "ServerSideEncryption": "aws:kms",
                "SSEKMSKeyId": access.kms_key,
            }
        with explained(self.uri):
            self._unchecked_client = client or make_client(access)

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
            answer = self._client.put_object(
                Bucket=self._bucket, Key=name, Body=data, **self._encryption
            )
        return _put_info(key, len(data), answer)

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
                    Metadata={WRITER: writer}, **self._encryption,
                )  # fmt: skip
            except ClientError as error:
                if _code(error) not in {"PreconditionFailed", "ConditionalRequestConflict"}:
                    raise
                mine = self._won_before_retry(error, key, writer)
                if mine is None:
                    raise ObjectExistsError(self.uri, key) from error
                return mine
        return _put_info(key, len(data), answer)

    def put_file(
        self, key: str, path: Path, progress: Callable[[int], None] | None = None
    ) -> ObjectInfo:
        """Store a file as the newest version of ``key``, in parts if it is large.

        Raises:
            UnreadableFileError, FileChangedError: of the file.
            UploadTakenOverError: another file is being uploaded to the key.
        """
        target, tell = self._target(key), progress or (lambda _: None)
        with reading(path) as source:
            if source.size <= multipart.PART:
                data = source.read(0, multipart.PART)
                source.check_unchanged()
                info = self.put(key, data)
                tell(info.size)
                return info
            with explained(self.uri):
                answer = multipart.upload(target, source, tell)
            return _put_info(key, source.size, answer)

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
        if version == "":
            # Some servers take it for none.
            raise ObjectNotFoundError(self.uri, key, version)
        if version is not None:
            where["VersionId"] = version
        stream = cast(BinaryIO, tempfile.SpooledTemporaryFile(IN_MEMORY))  # noqa: SIM115
        with explained(self.uri):
            try:
                self._download(where, stream)
            except ClientError as error:
                if not self._is_absent(error, key, version):
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
                if not self._is_absent(error, key):
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

    def history(self, prefix: str = "") -> list[ObjectInfo]:
        """Return every kept version of every key that starts with ``prefix``, deleted ones too."""
        found = (self._info(entry) for entry in self._entries(self._prefix + prefix))
        return [info for info in found if is_key(info.key)]

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

    def purge(self, key: str, versions: Collection[str] | None = None) -> int:
        """Remove versions of ``key`` for good, and the parts of unfinished uploads to it.

        Args:
            key: of the object.
            versions: that are removed, as far as they are there; all if None.
        """
        target = self._target(key)
        present: list[str] = []
        markers: list[str] = []
        for page in self._pages(target.name):
            # The prefix also finds longer keys.
            present += [e["VersionId"] for e in page.get("Versions", []) if e["Key"] == target.name]
            markers += [
                e["VersionId"] for e in page.get("DeleteMarkers", []) if e["Key"] == target.name
            ]
        doomed = [version for version in present if versions is None or version in versions]
        if len(doomed) < len(present):
            # A key that was deleted stays so.
            markers = []
        with explained(self.uri):
            multipart.abort_all(target)
            # The oldest first and markers last, so that no older version comes to light meanwhile.
            for version in (*reversed(doomed), *markers):
                self._client.delete_object(Bucket=self._bucket, Key=target.name, VersionId=version)
        return len(doomed)

    def discard_unfinished(self) -> int:
        """Remove what unfinished puts of any key have left; return how many there were."""
        with explained(self.uri):
            return multipart.abort_under(self._client, self._bucket, self._prefix)

    @contextmanager
    def lock(self, name: str, wait: float | None = None) -> Iterator[Held]:
        """Hold a lock (:meth:`fl_assets.storage.base.SiteStore.lock`).

        Raises:
            LockHeldError: it did not become free in time.
        """
        check_key(name)
        seconds = locks.WAIT if wait is None else wait
        with locks.unless_held(self.uri, name, lambda: leased(self, name, seconds)) as held:
            yield held

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

    def _target(self, key: str) -> multipart.Target:
        with explained(self.uri):
            return multipart.Target(self._client, self._bucket, self._name(key), self._encryption)

    def _name(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _info(self, entry: ObjectVersionTypeDef) -> ObjectInfo:
        key = entry["Key"].removeprefix(self._prefix)
        modified = entry["LastModified"].astimezone(UTC)
        return ObjectInfo(key, entry["Size"], entry["VersionId"], modified)

    def _entries(self, prefix: str) -> Iterator[ObjectVersionTypeDef]:
        for page in self._pages(prefix):
            yield from page.get("Versions", [])

    def _pages(self, prefix: str) -> Iterator[ListObjectVersionsOutputTypeDef]:
        with explained(self.uri):
            pages = self._client.get_paginator("list_object_versions")
            yield from pages.paginate(Bucket=self._bucket, Prefix=prefix)

    def _is_absent(self, error: ClientError, key: str, version: str | None = None) -> bool:
        """Tell whether an object is not there rather than out of reach.

        To whom may not list the whole bucket, S3 answers a request for what is not there with a
        denial: then the part that this identity may list decides.
        """
        code = _code(error)
        if code not in _DENIED:
            return code in _ABSENT or (version is not None and code in _MALFORMED_VERSION)
        if version is not None:
            return all(info.version != version for info in self.versions(key))
        # Versions come by key and then the newest first.
        first = next(self._entries(self._name(key)), None)
        return first is None or first["Key"] != self._name(key) or not first["IsLatest"]

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


def _code(error: ClientError) -> str:
    return error.response["Error"]["Code"]


def _put_info(
    key: str, size: int, answer: PutObjectOutputTypeDef | CompleteMultipartUploadOutputTypeDef
) -> ObjectInfo:
    # The answer to a put does not tell LastModified; its date is the same server's clock.
    modified = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
    return ObjectInfo(key, size, answer["VersionId"], modified.astimezone(UTC))

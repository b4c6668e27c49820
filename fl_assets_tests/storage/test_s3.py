"""What only S3 can get wrong: pages, prefixes, lost answers, and the reasons it refuses."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from fl_assets.storage import ObjectExistsError, ObjectNotFoundError, StorageError
from fl_assets.storage.base import AccessDeniedError
from fl_assets.storage.s3 import S3Store
from fl_assets.storage.s3_client import ATTEMPTS
from fl_assets.storage.s3_errors import (
    BucketNotFoundError,
    CredentialsMissingError,
    CredentialsRefusedError,
    EndpointUnreachableError,
    KeyRefusedError,
    VersioningOffError,
    WrongRegionError,
)
from fl_assets_tests.storage.s3_servers import S3Server
from fl_assets_tests.storage.servers import denying_s3, flaky_proxy, refusing_s3

pytestmark = pytest.mark.services

MakeBucket = Callable[..., str]


def impatient_client(endpoint: str) -> Any:
    """A client that does not retry, so that a test of what comes after retries is quick."""
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3", endpoint_url=endpoint, config=Config(retries={"total_max_attempts": 1})
    )


def test_more_keys_than_a_page(make_bucket: MakeBucket) -> None:
    from moto.backends import get_backend
    from moto.core.models import DEFAULT_ACCOUNT_ID

    bucket, keys = make_bucket(), [f"egress/{n:04}" for n in range(1003)]
    for key in keys:
        # Into the server without HTTP, which takes 8 ms a key; the listing is what is tested.
        get_backend("s3")[DEFAULT_ACCOUNT_ID]["aws"].put_object(bucket, key, b"1")
    store = S3Store(bucket)
    assert [info.key for info in store.list("egress/")] == keys
    assert [info.key for info in store.versions(keys[-1])] == [keys[-1]]


def test_prefixes_are_separate_stores(make_bucket: MakeBucket) -> None:
    bucket = make_bucket()
    one, ten = S3Store(bucket, "site/1"), S3Store(bucket, "site/10")
    one.put("a", b"1")
    ten.put("a", b"10")
    assert one.get("a") == b"1"
    assert [info.key for info in one.list()] == ["a"]
    assert [info.key for info in S3Store(bucket).list()] == ["site/1/a", "site/10/a"]


def test_names_that_are_no_keys_are_not_listed(make_bucket: MakeBucket) -> None:
    import boto3

    bucket = make_bucket()
    for name in ("incoming/", "incoming/.part", "a//b", "incoming/a.csv"):
        boto3.client("s3").put_object(Bucket=bucket, Key=name, Body=b"")
    assert [info.key for info in S3Store(bucket).list()] == ["incoming/a.csv"]


def test_a_large_object_streams_from_disk(
    make_bucket: MakeBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fl_assets.storage.s3.IN_MEMORY", 1000)
    store = S3Store(make_bucket())
    store.put("a", b"0123456789" * 10_000)
    with store.open("a") as stream:
        assert isinstance(stream.fileno(), int)
        stream.seek(-3, 2)
        assert stream.read() == b"789"


@pytest.mark.faults
def test_a_conditional_put_whose_answer_got_lost_has_succeeded(
    s3_endpoint: str, make_bucket: MakeBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, faults = make_bucket(), {"PUT": 1}
    with flaky_proxy(s3_endpoint, faults) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
        store = S3Store(bucket)
        info = store.put_if_absent("ledger/0.json", b"mine")
        assert faults == {"PUT": 0}
        assert store.versions("ledger/0.json") == [info]

        faults["PUT"] = 1
        with pytest.raises(ObjectExistsError):
            # Equal content does not make it ours.
            store.put_if_absent("ledger/0.json", b"mine")


@pytest.mark.faults
def test_a_download_that_breaks_off_is_repeated(
    s3_endpoint: str, make_bucket: MakeBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, content, faults = make_bucket(), b"0123456789" * 30_000, {"GET": ATTEMPTS - 1}
    with flaky_proxy(s3_endpoint, faults) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
        store = S3Store(bucket)
        store.put("a", content)
        assert store.get("a") == content
        assert faults == {"GET": 0}

        faults["GET"] = ATTEMPTS
        with pytest.raises(EndpointUnreachableError):
            store.get("a")


class TestErrorCauses:
    def test_no_bucket(self, s3_endpoint: str) -> None:
        name = f"absent-{uuid.uuid4().hex}"
        with pytest.raises(BucketNotFoundError, match=rf"s3://{name}.*consortium\.yaml"):
            S3Store(name).list()

    @pytest.mark.parametrize("versioning", [None, "Suspended"])
    def test_versioning_off(self, make_bucket: MakeBucket, versioning: str | None) -> None:
        import boto3

        bucket = make_bucket(versioning)
        store = S3Store(bucket)
        with pytest.raises(VersioningOffError, match=f"{bucket}.*turn it on"):
            store.put("a", b"1")
        boto3.client("s3").put_bucket_versioning(
            Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}
        )
        store.put("a", b"1")

    def test_no_credentials(self, make_bucket: MakeBucket, monkeypatch: pytest.MonkeyPatch) -> None:
        bucket = make_bucket()
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        with pytest.raises(CredentialsMissingError, match="AWS_PROFILE"):
            S3Store(bucket).list()

    def test_no_such_profile(self, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_PROFILE", "absent")
        with pytest.raises(CredentialsMissingError, match="absent"):
            S3Store("bucket")

    def test_unreachable(self, s3_endpoint: str) -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            client = impatient_client(f"http://127.0.0.1:{closed.getsockname()[1]}")
            with pytest.raises(EndpointUnreachableError, match="AWS_ENDPOINT_URL"):
                S3Store("bucket", client=client).list()

    def test_an_endpoint_that_is_no_url(
        self, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "minio:9000")
        with pytest.raises(EndpointUnreachableError, match="minio:9000"):
            S3Store("bucket")

    def test_a_name_that_is_no_bucket(self, s3_endpoint: str) -> None:
        with pytest.raises(StorageError, match="Invalid bucket name"):
            S3Store("no bucket").list()

    @pytest.mark.parametrize(
        ("status", "code", "kind", "cure"),
        [
            (403, "AccessDenied", AccessDeniedError, "role"),
            (301, "PermanentRedirect", WrongRegionError, "AWS_REGION"),
            (400, "AuthorizationHeaderMalformed", WrongRegionError, "AWS_REGION"),
            (400, "ExpiredToken", CredentialsRefusedError, "renew"),
            (403, "InvalidAccessKeyId", CredentialsRefusedError, "renew"),
            (403, "SignatureDoesNotMatch", CredentialsRefusedError, "clock"),
            (403, "RequestTimeTooSkewed", CredentialsRefusedError, "clock"),
            (409, "ConditionalRequestConflict", ObjectExistsError, "'a'"),
            (412, "PreconditionFailed", ObjectExistsError, "'a'"),
            (400, "KMS.NotFoundException", KeyRefusedError, "kms_key"),
            (400, "KMS.DisabledException", KeyRefusedError, "kms_key"),
            (400, "EntityTooLarge", StorageError, "EntityTooLarge"),
        ],
    )
    def test_answers(
        self, s3_endpoint: str, status: int, code: str, kind: type[StorageError], cure: str
    ) -> None:
        with refusing_s3(status, code) as url:
            store = S3Store("bucket", client=impatient_client(url))
            with pytest.raises(StorageError, match=cure) as caught:
                store.put_if_absent("a", b"1")
        assert type(caught.value) is kind
        assert "s3://bucket" in str(caught.value)

    def test_a_key_that_is_refused(self, s3_endpoint: str) -> None:
        message = "User: r is not authorized to perform: kms:GenerateDataKey on resource: k"
        with refusing_s3(403, "AccessDenied", message) as url:
            store = S3Store("bucket", client=impatient_client(url))
            with pytest.raises(KeyRefusedError, match=r"resource: k.*kms_key"):
                store.put("a", b"1")

    def test_versioning_off_elsewhere(self, seaweed: S3Server) -> None:
        for number, status in enumerate((None, "Suspended")):
            bucket = seaweed.make_bucket(f"hospital-{number}-{uuid.uuid4().hex}", status)
            with pytest.raises(VersioningOffError, match="turn it on"):
                S3Store(bucket).list()

    def test_no_bucket_elsewhere(self, seaweed: S3Server) -> None:
        with pytest.raises(BucketNotFoundError, match=r"consortium\.yaml"):
            S3Store(f"absent-{uuid.uuid4().hex}").list()

    def test_what_is_absent_is_not_taken_for_denied(self, s3_endpoint: str) -> None:
        """To whom may not list the whole bucket S3 denies what is not there."""
        with denying_s3(listed="site/here") as url:
            store = S3Store("bucket", "site", client=impatient_client(url))
            assert not store.exists("a")
            for version in (None, "1"):
                with pytest.raises(ObjectNotFoundError):
                    store.get("a", version)
            for read in (store.exists, store.get):
                with pytest.raises(AccessDeniedError):
                    read("here")
            with pytest.raises(AccessDeniedError):
                store.get("here", "7")

    def test_a_denied_head_is_not_taken_for_absence(self, s3_endpoint: str) -> None:
        with refusing_s3(403, "AccessDenied") as url:
            store = S3Store("bucket", client=impatient_client(url))
            with pytest.raises(AccessDeniedError):
                store.exists("a")

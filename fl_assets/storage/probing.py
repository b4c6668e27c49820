"""One request for an object, to see whether its owner lets this identity have it."""

from __future__ import annotations

from enum import StrEnum

from fl_assets.storage.access import Access
from fl_assets.storage.base import AccessDeniedError
from fl_assets.storage.s3_client import make_client
from fl_assets.storage.s3_errors import RoleRefusedError, explained


class Answer(StrEnum):
    """What S3 said."""

    GIVEN = "given"
    DENIED = "denied"
    ABSENT = "absent"
    """There is no such object, which S3 tells to whom may list the bucket, and to no one else."""


def ask_for(uri: str, key: str, access: Access) -> Answer:
    """Ask for the first byte of an object.

    A store asks other things before, such as whether versions are kept, and a denial of those
    would say nothing of the object. One byte, for where it is given nothing shall be moved.

    Args:
        uri: ``s3://bucket/prefix`` of the store.
        key: of the object in the store.
        access: as whom.

    Raises:
        StorageError: neither given nor denied: no credentials, no role, no bucket, no answer.
    """
    from botocore.exceptions import ClientError

    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    name = f"{prefix.rstrip('/')}/{key}" if prefix else key
    try:
        with explained(uri):
            try:
                client = make_client(access)
                client.get_object(Bucket=bucket, Key=name, Range="bytes=0-0")["Body"].close()
            except ClientError as error:
                if error.response["Error"]["Code"] == "NoSuchKey":
                    return Answer.ABSENT
                # An empty object has no first byte.
                if error.response["Error"]["Code"] != "InvalidRange":
                    raise
    except RoleRefusedError:
        raise
    except AccessDeniedError:
        return Answer.DENIED
    return Answer.GIVEN

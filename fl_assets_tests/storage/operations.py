"""What a process may try in a hospital's bucket, through the project's store and by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fl_assets.settings import Settings
from fl_assets.storage import SiteStore, open_store
from fl_assets.storage.base import AccessDeniedError
from fl_assets.storage.s3_errors import RoleRefusedError

OPERATIONS: dict[str, Callable[[SiteStore], object]] = {
    "GET": lambda store: store.get("records/1.parquet"),
    "PUT": lambda store: store.put("incoming/new.csv", b"rows"),
    "LIST": lambda store: store.list("incoming/"),
    "DELETE": lambda store: store.delete("incoming/new.csv"),
}
# The store asks whether versions are kept, and whether a key is there, before it does these.
REQUESTS: dict[str, Callable[[Any, str, str], object]] = {
    "GET": lambda s3, bucket, key: s3.get_object(Bucket=bucket, Key=f"{key}records/1.parquet"),
    "PUT": lambda s3, bucket, key: s3.put_object(Bucket=bucket, Key=f"{key}x", Body=b""),
    "LIST": lambda s3, bucket, key: s3.list_object_versions(Bucket=bucket, Prefix=key),
    "DELETE": lambda s3, bucket, key: s3.delete_object(Bucket=bucket, Key=f"{key}x"),
}


def own_store(settings: Settings, me: str, other: str) -> SiteStore:
    """Open another's store with my own access."""
    return open_store(settings.site_uri(other), settings.site_access(me))


def allowed(operation: Callable[..., object], *arguments: object) -> bool:
    """Tell whether an operation of a store is allowed."""
    try:
        operation(*arguments)
    except RoleRefusedError:
        # The role was to be taken, and to have no right to the bucket.
        raise
    except AccessDeniedError:
        return False
    return True


def granted(request: Callable[..., object], *arguments: object) -> bool:
    """Tell whether a request to S3 is allowed."""
    from botocore.exceptions import ClientError

    try:
        request(*arguments)
    except ClientError as error:
        if error.response["Error"]["Code"] != "AccessDenied":
            raise
        return False
    return True

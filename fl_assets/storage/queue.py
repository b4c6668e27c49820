"""S3's messages about new objects, from an SQS queue."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

from fl_assets.storage.s3_errors import explained


@dataclass(frozen=True)
class Notice:
    """One message of the queue.

    Attributes:
        objects: bucket and key of the objects that it is about; none in S3's test message and in
            what is no message of S3.
        receipt: deletes it.
    """

    objects: tuple[tuple[str, str], ...]
    receipt: str


class UploadQueue:
    """A standard SQS queue that buckets notify of ``s3:ObjectCreated:*`` and ``ObjectRemoved:*``.

    Messages may come twice, late, in another order or never: they say where to look, and nothing
    else. What the identity needs: ``sqs:ReceiveMessage`` and ``sqs:DeleteMessage``.

    Args:
        url: of the queue.
        client: a boto3 SQS client; one from the default credential chain if None.

    Raises:
        StorageError: boto3 has no region or no credentials to begin with.
    """

    def __init__(self, url: str, client: Any = None) -> None:
        self._url = url
        with explained(url):
            self._client = client or _default_client()

    def receive(self, seconds: float = 5.0) -> list[Notice]:
        """Return the messages that wait, without deleting them, until the time is up.

        Raises:
            StorageError: the queue cannot be read.
        """
        found: list[Notice] = []
        end = time.monotonic() + seconds
        with explained(self._url):
            while time.monotonic() < end:
                # Not 0: that asks a part of the servers alone, and may miss what waits at others.
                answer = self._client.receive_message(
                    QueueUrl=self._url, MaxNumberOfMessages=10, WaitTimeSeconds=1
                )
                messages = answer.get("Messages", [])
                if not messages:
                    break
                found += [_notice(message) for message in messages]
        return found

    def delete(self, notices: Sequence[Notice]) -> None:
        """Delete messages for good.

        Raises:
            StorageError: the queue refuses.
        """
        with explained(self._url):
            for start in range(0, len(notices), 10):
                entries = [
                    {"Id": str(number), "ReceiptHandle": notice.receipt}
                    for number, notice in enumerate(notices[start : start + 10])
                ]
                self._client.delete_message_batch(QueueUrl=self._url, Entries=entries)


def _notice(message: dict[str, Any]) -> Notice:
    return Notice(tuple(_objects(message["Body"])), message["ReceiptHandle"])


def _objects(body: str) -> Iterator[tuple[str, str]]:
    try:
        records = json.loads(body)["Records"]
        for record in records:
            found = record["s3"]
            # In events, unlike anywhere else in S3, keys are encoded as in a query string.
            yield found["bucket"]["name"], unquote_plus(found["object"]["key"])
    except (KeyError, TypeError, ValueError):
        return


def _default_client() -> Any:
    import boto3
    from botocore.config import Config

    # A tick of the sensor must not wait for a queue that is away: the listing stands in for it.
    config = Config(
        connect_timeout=3, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 2}
    )
    make: Any = boto3.Session().client  # its stubs know services by literal names
    return make("sqs", config=config)

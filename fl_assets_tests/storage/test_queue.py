"""The queue of S3's messages, against moto's server."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from fl_assets.storage import StorageError
from fl_assets.storage.queue import UploadQueue

pytestmark = pytest.mark.services


@pytest.fixture
def sqs(s3_endpoint: str) -> Any:
    import boto3

    return boto3.client(
        "sqs",
        endpoint_url=s3_endpoint,
        region_name="eu-central-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )


@pytest.fixture
def url(sqs: Any) -> str:
    answer = sqs.create_queue(
        QueueName=f"uploads-{uuid.uuid4().hex}", Attributes={"VisibilityTimeout": "0"}
    )
    found: str = answer["QueueUrl"]
    return found


def event(bucket: str, key: str) -> str:
    return json.dumps({"Records": [{"s3": {"bucket": {"name": bucket}, "object": {"key": key}}}]})


def test_keys_are_decoded_and_whatever_else_is_there_names_no_object(sqs: Any, url: str) -> None:
    bodies = [
        event("bucket-a", "incoming/m%C3%A4rz+2027%2B1.csv"),
        json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "bucket-a"}),
        json.dumps({"Records": [{"s3": "of another kind"}]}),
        json.dumps(["no", "object"]),
        "no JSON",
    ]
    for body in bodies:
        sqs.send_message(QueueUrl=url, MessageBody=body)
    queue = UploadQueue(url, sqs)

    notices = queue.receive(0.5)

    assert len({notice.receipt for notice in notices}) >= len(bodies)
    assert {found for notice in notices for found in notice.objects} == {
        ("bucket-a", "incoming/märz 2027+1.csv")
    }


def test_a_message_comes_again_until_it_is_deleted(sqs: Any, url: str) -> None:
    for number in range(12):
        sqs.send_message(QueueUrl=url, MessageBody=event("bucket-a", f"incoming/{number}.csv"))
    queue = UploadQueue(url, sqs)
    seen = {found for notice in queue.receive(0.5) for found in notice.objects}
    assert seen

    sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "600"})
    notices = queue.receive(5)
    assert len(notices) == 12
    queue.delete(notices)

    sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "0"})
    assert queue.receive(5) == []


def test_all_servers_of_the_queue_are_asked() -> None:
    """A short poll (of 0 s) asks a part of them, and misses what waits at the others."""
    asked = []

    class Queue:
        def receive_message(self, **arguments: Any) -> dict[str, Any]:
            asked.append(arguments["WaitTimeSeconds"])
            return {}

    assert UploadQueue("https://sqs.test/uploads", Queue()).receive() == []
    assert asked == [1]


def test_a_queue_that_is_not_there_is_a_clear_error(sqs: Any, url: str) -> None:
    with pytest.raises(StorageError, match="no-such-queue"):
        UploadQueue(f"{url}-no-such-queue", sqs).receive(1)

"""From an upload to a candidate on S3, told by the bucket's messages, with a real daemon.

Each hospital has a role, and the coordinator's user the policy of its own; moto enforces them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from fnmatch import fnmatch
from pathlib import Path

import dagster as dg
import pytest
import yaml

from fl_assets.settings import Settings
from fl_assets.storage.base import AccessDeniedError
from fl_assets.storage.policies import ROWS
from fl_assets_tests.defs.dagster_server import dagster_dev, wait_for
from fl_assets_tests.defs.daily_life import (
    REFRESHED,
    candidate,
    fla_upload,
    materialisations,
    set_dagster_yaml,
    skip_reason,
    unfinished,
)
from fl_assets_tests.storage.hospitals import (
    COORDINATOR,
    NAMES,
    bucket,
    identities_on_moto,
    role_arn,
)
from fl_assets_tests.storage.s3_servers import ACCOUNT, REGION, S3Server, identity, moto_server
from fl_assets_tests.world import build_world

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[S3Server]:
    """An S3 with SQS that asks who calls."""
    with moto_server(tmp_path / "moto.log") as found:
        yield found


def make_queue(server: S3Server) -> str:
    """Let the hospitals' buckets tell a queue of their uploads; return its URL."""
    sqs, s3 = server.client("sqs"), server.client("s3")
    url: str = sqs.create_queue(QueueName="uploads")["QueueUrl"]
    told = {
        "QueueArn": queue_arn("uploads"),
        "Events": ["s3:ObjectCreated:*"],
        "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": "incoming/"}]}},
    }
    for hospital in NAMES:
        s3.put_bucket_notification_configuration(
            Bucket=bucket(hospital),
            NotificationConfiguration={"QueueConfigurations": [told]},
        )
    return url


def queue_arn(name: str) -> str:
    return f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"


def let_work_for_all(server: S3Server) -> None:
    """Let the coordinator's user read the queue, and take the hospitals' roles.

    On one machine its process does the hospitals' tasks as well, each under the hospital's role.
    """
    allowed = [
        {"Effect": "Allow", "Action": action, "Resource": resource}
        for action, resource in (
            ("sts:AssumeRole", [role_arn(name) for name in NAMES]),
            # On AWS the right to delete one is the right to delete ten; moto asks for the other.
            (["sqs:ReceiveMessage", "sqs:DeleteMessageBatch"], queue_arn("uploads")),
        )
    ]
    server.client("iam").put_user_policy(
        UserName=COORDINATOR,
        PolicyName="one-machine",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": allowed}),
    )


def acting(server: S3Server, variables: dict[str, str]) -> AbstractContextManager[None]:
    """Be a user for a while, with the processes that are started meanwhile."""
    return identity(server.environment(variables) | {"AWS_ENDPOINT_URL_SQS": server.url})


def of_rows(key: str) -> bool:
    return any(fnmatch(key, pattern) for pattern in ROWS)


def empty(settings: Settings, hospital: str) -> None:
    """Take away all that a hospital has, as if it had just joined."""
    store = settings.site_store(hospital)
    for info in store.list():
        store.purge(info.key)


def test_the_last_hospital_uploads_and_a_model_follows(server: S3Server, tmp_path: Path) -> None:
    identities = identities_on_moto(server, COORDINATOR)
    let_work_for_all(server)
    queue, home = make_queue(server), tmp_path / "world"
    home.mkdir()
    with acting(server, identities[COORDINATOR]):
        settings = build_world(
            home,
            simulated=False,
            privacy_budget={"unprotected_runs": True},
            bucket="s3://bucket-of-{hospital}",
            role=role_arn("{hospital}"),
            region=REGION,
            retraining={"min_new_rows": 0.1},
            routine=["small-lr"],
            promotion={"min_auroc": 0.0, "min_gain_over_age_only": -1.0, "max_ece": 1.0},
        )
        recipe = {"model": {"kind": "logistic_regression"}, "rounds": 2, "quorum": 3}
        (settings.recipes / "small-lr.yaml").write_text(yaml.safe_dump(recipe))
        empty(settings, "hospital-c")
        set_dagster_yaml(settings)
    with (
        dg.DagsterInstance.from_config(str(home / "dagster")) as instance,
        acting(server, identities[COORDINATOR]),
        dagster_dev(settings, tmp_path / "dagster.log", sensor_seconds=1, queue=queue) as dagster,
    ):
        waits = (
            "small-lr waits: it has no model yet; 2 of 3 hospitals are ready (hospital-c: it has "
            "no partitions yet)"
        )
        wait_for(lambda: skip_reason(dagster, "retraining_policy") == waits or None, "the policy")
        # From here on only messages can tell the sensor where to look. Of the other two, whose data
        # were made without it, it has made Dagster know.
        others = ["hospital-a", "hospital-b"]
        expected = {f"{asset}/{hospital}": 1 for asset in REFRESHED for hospital in others}
        wait_for(lambda: materialisations(instance, REFRESHED) == expected or None, "others", 300)

        # The hospital's own process has its own rights alone.
        with acting(server, identities["hospital-c"]):
            fla_upload(settings, "hospital-c", tmp_path / "first.csv", 200, 99)

        wait_for(lambda: candidate(settings), "a candidate", 300)
        wait_for(lambda: not unfinished(instance) or None, "the end of all runs")
        assert materialisations(instance, [*REFRESHED, "federated_model"]) == {
            **{f"{asset}/{hospital}": 1 for asset in REFRESHED for hospital in NAMES},
            "federated_model/small-lr": 1,
        }
    with acting(server, identities[COORDINATOR]):
        for hospital in NAMES:
            held = [i.key for i in settings.site_store(hospital).list() if of_rows(i.key)]
            assert {key.partition("/")[0] for key in held} >= {"incoming", "records", "partitions"}
            for key in held:
                with pytest.raises(AccessDeniedError):
                    settings.listing_store(hospital).get(key)

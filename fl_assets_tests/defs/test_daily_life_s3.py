"""From an upload to a candidate on S3, told by the bucket's messages, with a real daemon."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml

from fl_assets.settings import Settings
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
from fl_assets_tests.storage.s3_servers import REGION, S3Server, identity, moto_server
from fl_assets_tests.world import build_world

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]

HOSPITALS = ["hospital-a", "hospital-b", "hospital-c"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[S3Server]:
    """An S3 with SQS, of which this process is the administrator."""
    with moto_server(tmp_path / "moto.log") as found:
        queue = {"AWS_ENDPOINT_URL_SQS": found.url}
        with identity(found.environment(found.admin) | queue):
            yield found


def make_queue(server: S3Server) -> str:
    """Create the hospitals' buckets, which tell a queue of their uploads; return its URL."""
    sqs, s3 = server.client("sqs"), server.client("s3")
    url: str = sqs.create_queue(QueueName="uploads")["QueueUrl"]
    wanted = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    told = {
        "QueueArn": wanted["Attributes"]["QueueArn"],
        "Events": ["s3:ObjectCreated:*"],
        "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": "incoming/"}]}},
    }
    for hospital in HOSPITALS:
        s3.put_bucket_notification_configuration(
            Bucket=server.make_bucket(hospital),
            NotificationConfiguration={"QueueConfigurations": [told]},
        )
    return url


def empty(settings: Settings, hospital: str) -> None:
    """Take away all that a hospital has, as if it had just joined."""
    store = settings.site_store(hospital)
    for info in store.list():
        store.purge(info.key)


def test_the_last_hospital_uploads_and_a_model_follows(server: S3Server, tmp_path: Path) -> None:
    queue = make_queue(server)
    home = tmp_path / "world"
    home.mkdir()
    settings = build_world(
        home,
        simulated=False,
        privacy_budget={"unprotected_runs": True},
        bucket="s3://{hospital}",
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
        dagster_dev(settings, tmp_path / "dagster.log", sensor_seconds=1, queue=queue) as dagster,
    ):
        waits = (
            "small-lr waits: it has no model yet; 2 of 3 hospitals are ready (hospital-c: it has "
            "no partitions yet)"
        )
        wait_for(lambda: skip_reason(dagster, "retraining_policy") == waits or None, "the policy")
        # From here on only messages can tell the sensor where to look.
        sensor = "hospital_uploads_arrived"
        wait_for(
            lambda: skip_reason(dagster, sensor) == "no new uploads" or None,
            "a look at all hospitals",
        )

        fla_upload(settings, "hospital-c", tmp_path / "first.csv", 200, 99)

        wait_for(lambda: candidate(settings), "a candidate", 300)
        wait_for(lambda: not unfinished(instance) or None, "the end of all runs")
        assert materialisations(instance, [*REFRESHED, "federated_model"]) == {
            **{f"{asset}/hospital-c": 1 for asset in REFRESHED},
            "federated_model/small-lr": 1,
        }

"""Terraform's roots, and all of them applied to an emulator once."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from fl_assets_tests.infra import terraform as tf
from fl_assets_tests.infra.applied import Applied
from fl_assets_tests.infra.simulator import Simulator
from fl_assets_tests.storage.s3_servers import REGION, moto

# Over it moto has begun to make the provider wait for something that never comes.
APPLY_SECONDS = 560


@pytest.fixture(scope="session")
def roots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of ``terraform/`` whose roots are initialised."""
    folder = tf.copy_of_roots(tmp_path_factory.mktemp("terraform"))
    for root in ("main", "bootstrap"):
        tf.init(folder / root)
    return folder


@pytest.fixture(scope="session")
def planned(roots: Path) -> dict[str, dict[str, Any]]:
    """Every resource of ``main`` by its address, made by a provider that is mocked.

    Policies are real texts; what AWS would have chosen, as the ids of keys, is not.
    """
    messages = tf.run_tests(roots / "main", "-verbose", "-test-directory=tests/whole")
    return tf.resources(tf.message(messages, "test_state", "whole"))


@pytest.fixture(scope="session")
def bootstrapped(roots: Path) -> dict[str, dict[str, Any]]:
    """Every resource of ``bootstrap`` by its address, made by a provider that is mocked."""
    messages = tf.run_tests(roots / "bootstrap", "-verbose", "-filter=tests/roles.tftest.hcl")
    return tf.resources(tf.message(messages, "test_state", "roles"))


@pytest.fixture(scope="session")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Simulator:
    return Simulator(tmp_path_factory.mktemp("iam"))


@pytest.fixture(scope="session")
def applied(roots: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What came of applying ``main`` to moto, planning it again and destroying it.

    ``state`` and ``plan`` are Terraform's, ``left`` counts what moto still had afterwards. It takes
    minutes, so that the workers of a test run share it.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    kept = folder / "applied.json"
    with FileLock(folder / "applied.lock"):
        if not kept.exists():
            kept.write_text(json.dumps(_apply(roots / "main", tmp_path_factory.mktemp("moto"))))
        found: dict[str, Any] = json.loads(kept.read_text())
        return found


@pytest.fixture(scope="session")
def state(applied: dict[str, Any]) -> Applied:
    """The policies of what was applied."""
    return Applied(tf.resources(applied["state"]))


def _apply(root: Path, folder: Path) -> dict[str, Any]:
    # With names of buckets in the host moto could not be found by name.
    override = root / "emulator_override.tf"
    override.write_text('provider "aws" {\n  s3_use_path_style = true\n}\n')
    try:
        with moto(folder / "moto.log", MOTO_IAM_LOAD_MANAGED_POLICIES="true") as url:
            options = ("-verbose", "-test-directory=tests/emulator")
            messages = tf.run_tests(root, *options, seconds=APPLY_SECONDS, **emulated(url))
            return {
                "state": tf.message(messages, "test_state", "apply"),
                "plan": tf.message(messages, "test_plan", "again"),
                "left": _left(url),
            }
    finally:
        override.unlink()


def emulated(url: str) -> dict[str, str]:
    """Variables by which Terraform talks to an emulator and to nothing else."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": REGION,
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def _left(url: str) -> dict[str, int]:
    import boto3

    make: Any = boto3.client  # its stubs know services by literal names

    def client(service: str) -> Any:
        return make(
            service, endpoint_url=url, region_name=REGION,
            aws_access_key_id="testing", aws_secret_access_key="testing",
        )  # fmt: skip

    def ask(service: str, call: str, key: str, **arguments: Any) -> list[Any]:
        found: list[Any] = getattr(client(service), call)(**arguments).get(key, [])
        return found

    own = [{"Name": "tag:consortium", "Values": ["acme-stroke"]}]
    kms = client("kms")
    keys = [
        kms.describe_key(KeyId=key["KeyId"])["KeyMetadata"]
        for key in ask("kms", "list_keys", "Keys")
    ]
    return {
        # No trails: the provider names one by its ARN, and moto, which goes by names, keeps it.
        "buckets": len(ask("s3", "list_buckets", "Buckets")),
        "roles": len(ask("iam", "list_roles", "Roles")),
        "clusters": len(ask("eks", "list_clusters", "clusters")),
        "databases": len(ask("rds", "describe_db_instances", "DBInstances")),
        "queues": len(ask("sqs", "list_queues", "QueueUrls")),
        "networks": len(ask("ec2", "describe_vpcs", "Vpcs", Filters=own)),
        # A key that was deleted waits for its end.
        "keys": len([key for key in keys if key["KeyState"] == "Enabled"]),
        "repositories": len(ask("ecr", "describe_repositories", "repositories")),
        "secrets": len(ask("secretsmanager", "list_secrets", "SecretList")),
        "logs": len(ask("logs", "describe_log_groups", "logGroups")),
    }

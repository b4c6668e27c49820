"""All of Terraform's main root applied to moto by the real provider, and destroyed again.

Moto has no add-ons, access entries and budgets; the test file that Terraform runs leaves those out
(``terraform/main/tests/emulator/apply.tftest.hcl``).
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from fl_assets_tests.infra import terraform as tf

pytestmark = [pytest.mark.infra, pytest.mark.timeout(600)]

# Of these moto does not keep what it was told (creator of the cluster, parameters of the database),
# or writes JSON otherwise; roles of pods follow, since they trust the cluster's issuer.
FORGOTTEN = re.compile(
    r"^module\.(cluster|database)\.|aws_sqs_queue\.uploads$|(role|site).*\.aws_iam_role\.this$"
)


def test_all_of_it_is_made(applied: dict[str, Any]) -> None:
    made = tf.resources(applied["state"])
    kinds = {address.split(".")[-2] for address in made}
    assert len(made) > 170
    assert {
        "aws_vpc", "aws_nat_gateway", "aws_vpc_endpoint", "aws_flow_log", "aws_eks_cluster",
        "aws_eks_node_group", "aws_s3_bucket_policy", "aws_s3_bucket_notification", "aws_sqs_queue",
        "aws_ecr_repository", "aws_db_instance", "aws_secretsmanager_secret", "aws_cloudtrail",
        "aws_glue_catalog_table",
    } <= kinds  # fmt: skip


def test_a_second_plan_has_nothing_to_do(applied: dict[str, Any]) -> None:
    changed = tf.changes(applied["plan"])
    unexplained = {a: actions for a, actions in changed.items() if not FORGOTTEN.search(a)}
    assert unexplained == {}
    untouched = {each["address"] for each in applied["plan"]["resource_changes"]} - changed.keys()
    assert len([a for a in untouched if a.startswith("module.hospital")]) == 3 * 16


def test_nothing_is_left_after_destroying_it(applied: dict[str, Any]) -> None:
    assert not any(applied["left"].values()), applied["left"]


def test_no_secret_is_in_the_state(applied: dict[str, Any]) -> None:
    made = tf.resources(applied["state"])
    assert not [address for address in made if "secret_version" in address]
    (database,) = [v for a, v in made.items() if a.endswith("aws_db_instance.this")]
    assert database["manage_master_user_password"] is True
    assert database["password"] is None
    assert database["storage_encrypted"]
    assert not database["publicly_accessible"]

"""All of Terraform's main root applied to moto by the real provider, and destroyed again.

Moto has no add-ons, access entries and budgets; the test file that Terraform runs leaves those out
(``terraform/main/tests/emulator/apply.tftest.hcl``).
"""

from __future__ import annotations

from typing import Any

import pytest

from fl_assets_tests.infra import terraform as tf

pytestmark = [pytest.mark.infra, pytest.mark.timeout(600)]

# Moto does not keep what it was told of these, invents them, or writes the same JSON otherwise.
FORGOTTEN = {
    "aws_eks_cluster": {"access_config", "tags", "upgrade_policy", "vpc_config"},
    "aws_eks_node_group": {"launch_template", "remote_access", "tags", "update_config"},
    "aws_launch_template": {"tag_specifications"},
    "aws_db_instance": {"performance_insights_enabled", "performance_insights_kms_key_id"},
    "aws_db_parameter_group": {"parameter"},
    "aws_sqs_queue": {"redrive_policy"},
}
# So the cluster would be made anew, and what names its issuer, machines or security group follows.
FOLLOWING = {
    "aws_autoscaling_group_tag": {"autoscaling_group_name"},
    "aws_iam_openid_connect_provider": {"arn", "id", "tags", "thumbprint_list", "url"},
    "aws_iam_role": {"assume_role_policy"},
    "aws_vpc_security_group_ingress_rule": {"referenced_security_group_id"},
}


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
    unexplained = {
        each["address"]: unlike
        for each in applied["plan"]["resource_changes"]
        if each["change"]["actions"] != ["no-op"] and (unlike := unexcused(each))
    }
    assert unexplained == {}
    changed = tf.changes(applied["plan"])
    untouched = {each["address"] for each in applied["plan"]["resource_changes"]} - changed.keys()
    assert len([a for a in untouched if a.startswith("module.hospital")]) == 3 * 16


def unexcused(resource: Any) -> set[str]:
    """What the plan changes of a resource for no known reason; all of it, if there is none."""
    change, kind = resource["change"], resource["type"]
    before, after = change["before"] or {}, change["after"] or {}
    coming = {name for name, unknown in change["after_unknown"].items() if unknown is True}
    known = {name for name in before | after if before.get(name) != after.get(name)} - coming
    if kind in FORGOTTEN:
        return known - FORGOTTEN[kind]
    return (known | coming or {"everything"}) - FOLLOWING.get(kind, set())


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

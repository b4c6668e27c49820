"""What Terraform makes beside hospitals and cluster, and what settings change, on a mock."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fl_assets_tests.infra import terraform as tf
from fl_assets_tests.infra.applied import NAMES, of
from fl_assets_tests.infra.test_terraform import EXAMPLE, change

pytestmark = pytest.mark.infra

Made = dict[str, dict[str, Any]]


def kind(made: Made, name: str) -> list[dict[str, Any]]:
    return [values for address, values in made.items() if f"{name}." in address]


class TestParts:
    def test_images_do_not_change_and_are_scanned(self, planned: Made) -> None:
        repositories = kind(planned, "aws_ecr_repository")
        assert {r["name"] for r in repositories} == {
            f"acme-stroke/{image}" for image in ("dagster", "site", "server", "dashboard")
        }
        for repository in repositories:
            assert repository["image_tag_mutability"] == "IMMUTABLE"
            assert repository["image_scanning_configuration"] == [{"scan_on_push": True}]
            assert repository["encryption_configuration"][0]["encryption_type"] == "KMS"
            assert not repository["force_delete"]

    def test_the_trail_has_every_request_for_an_object_of_a_hospital(self, planned: Made) -> None:
        (trail,) = kind(planned, "aws_cloudtrail")
        assert trail["enable_log_file_validation"]
        assert trail["is_multi_region_trail"]
        management, data = (
            {field["field"]: field["equals"] or field["starts_with"] for field in each}
            for each in (s["field_selector"] for s in trail["advanced_event_selector"])
        )
        assert management == {"eventCategory": ["Management"]}
        coordinator = "acme-stroke-coordinator-123456789012"
        buckets = {*(f"acme-stroke-{name}" for name in NAMES), coordinator}
        # Neither reads nor writes are left out.
        assert {**data, "resources.ARN": set(data["resources.ARN"])} == {
            "eventCategory": ["Data"],
            "resources.type": ["AWS::S3::Object"],
            "resources.ARN": {f"arn:aws:s3:::{bucket}/" for bucket in buckets},
        }

    def test_the_budget_tells_before_it_is_spent_and_when_it_will_be(self, planned: Made) -> None:
        (budget,) = kind(planned, "aws_budgets_budget")
        assert (budget["limit_amount"], budget["time_unit"]) == ("600", "MONTHLY")
        topic = planned["module.observability.aws_sns_topic.alarms"]["arn"]
        told = {
            (n["notification_type"], n["threshold"], n["threshold_type"], n["comparison_operator"])
            for n in budget["notification"]
            if n["subscriber_sns_topic_arns"] == [topic]
        }
        assert told == {
            ("ACTUAL", 80, "PERCENTAGE", "GREATER_THAN"),
            ("FORECASTED", 100, "PERCENTAGE", "GREATER_THAN"),
        }

    def test_the_queue_is_told_of_uploads_alone(self, planned: Made) -> None:
        notifications = kind(planned, "aws_s3_bucket_notification")
        queue = planned["module.coordinator.aws_sqs_queue.uploads"]["arn"]
        assert len(notifications) == len(NAMES)
        for notification in notifications:
            (told,) = notification["queue"]
            assert (told["queue_arn"], told["filter_prefix"]) == (queue, "incoming/")
            assert set(told["events"]) == {"s3:ObjectCreated:*", "s3:ObjectRemoved:*"}


CHOSEN = """
    nat_per_zone      = true
    endpoint_cidrs    = ["203.0.113.7/32"]
    training_nodes    = { spot = true, max = 9 }
    database_multi_az = true
    hospital_identity = "pod-identity"
"""


@pytest.fixture(scope="module")
def chosen(roots: Path) -> Any:
    """The plan of the example with settings other than the defaults."""
    example = EXAMPLE.read_text()
    return change(roots, example, example, CHOSEN)[1]


class TestSettings:
    def after(self, plan: Any, address: str) -> Any:
        (found,) = [r["change"] for r in plan["resource_changes"] if r["address"] == address]
        return found["after"]

    def test_a_gateway_in_each_zone_and_a_way_to_it(self, chosen: Any) -> None:
        kinds = [each["type"] for each in chosen["resource_changes"]]
        assert kinds.count("aws_nat_gateway") == 3
        third = 'module.network.aws_nat_gateway.this["eu-central-1c"]'
        assert tf.changes(chosen)[third] == ["create"]

    def test_the_api_is_open_to_the_addresses_that_are_named(self, chosen: Any) -> None:
        (network,) = self.after(chosen, "module.cluster.aws_eks_cluster.this")["vpc_config"]
        assert network["endpoint_public_access"]
        assert network["endpoint_private_access"]
        assert network["public_access_cidrs"] == ["203.0.113.7/32"]

    def test_training_nodes_on_spot(self, chosen: Any) -> None:
        groups = {
            name: self.after(chosen, f'module.cluster.aws_eks_node_group.this["{name}"]')
            for name in ("system", "training")
        }
        kinds = {name: group["capacity_type"] for name, group in groups.items()}
        assert kinds == {"system": "ON_DEMAND", "training": "SPOT"}
        (scaling,) = groups["training"]["scaling_config"]
        assert (scaling["min_size"], scaling["max_size"]) == (0, 9)

    def test_a_database_in_two_zones(self, chosen: Any) -> None:
        assert self.after(chosen, "module.database.aws_db_instance.this")["multi_az"]

    def test_pod_identity_ties_a_hospitals_role_to_its_account(self, chosen: Any) -> None:
        for name in NAMES:
            site = f"{of(name)}.module.site"
            association = f'{site}.aws_eks_pod_identity_association.this["fl-{name}/site"]'
            found = self.after(chosen, association)
            assert (found["namespace"], found["service_account"]) == (f"fl-{name}", "site")
            role = self.after(chosen, f"{site}.aws_iam_role.this")
            (statement,) = json.loads(role["assume_role_policy"])["Statement"]
            assert statement["Principal"] == {"Service": "pods.eks.amazonaws.com"}
            cluster = self.after(chosen, "module.cluster.aws_eks_cluster.this")["arn"]
            assert statement["Condition"] == {
                "StringEquals": {
                    "aws:SourceAccount": "123456789012",
                    "aws:RequestTag/kubernetes-namespace": [f"fl-{name}"],
                    "aws:RequestTag/kubernetes-service-account": ["site"],
                },
                "ArnEquals": {"aws:SourceArn": cluster},
            }
        agent = 'module.cluster.aws_eks_addon.this["eks-pod-identity-agent"]'
        assert tf.changes(chosen)[agent] == ["create"]

    def test_no_other_role_changes_whom_it_trusts(self, chosen: Any) -> None:
        roles = {a for a in tf.changes(chosen) if ".aws_iam_role." in a}
        assert roles == {f"{of(name)}.module.site.aws_iam_role.this" for name in NAMES}

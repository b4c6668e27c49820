"""Terraform's roots with a provider that is mocked: what they would make of a consortium."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from fl_assets.config import load_yaml_model
from fl_assets.consortium import Consortium
from fl_assets_tests.infra import given
from fl_assets_tests.infra import terraform as tf
from fl_assets_tests.infra.tool import ROOT

EXAMPLE = ROOT / "examples/eks/consortium.yaml"
ROOTS = ("main", "bootstrap")

# Of one hospital without an Athena table.
OWN = {
    "aws_iam_role.ingest",
    "aws_iam_role_policy.ingest",
    'aws_iam_role_policy.site["store"]',
    'aws_iam_role_policy.site["tasks"]',
    "aws_s3_bucket_notification.uploads",
    "module.bucket.aws_s3_bucket.this",
    "module.bucket.aws_s3_bucket_lifecycle_configuration.this",
    "module.bucket.aws_s3_bucket_ownership_controls.this",
    "module.bucket.aws_s3_bucket_policy.this",
    "module.bucket.aws_s3_bucket_public_access_block.this",
    "module.bucket.aws_s3_bucket_server_side_encryption_configuration.this",
    "module.bucket.aws_s3_bucket_versioning.this",
    "module.key.aws_kms_alias.this",
    "module.key.aws_kms_key.this",
    "module.site.aws_iam_role.this",
}
# Lists of all hospitals' buckets.
LISTS = {
    "module.coordinator.aws_sqs_queue_policy.uploads": ["update"],
    "module.observability.aws_cloudtrail.this": ["update"],
}

CHANGING = """\
mock_provider "aws" {{
  source = "./tests/mocks"
}}

variables {{
  deployers      = ["arn:aws:iam::123456789012:role/admin"]
  cluster_admins = ["arn:aws:iam::123456789012:role/admin"]
  monthly_budget = 600
}}

run "before" {{
  variables {{
    consortium_file = "{before}"
  }}
}}

run "after" {{
  command = plan

  variables {{
    consortium_file = "{after}"
    {settings}
  }}
}}
"""


def test_the_example_is_a_consortium() -> None:
    consortium = load_yaml_model(EXAMPLE, Consortium)
    assert not consortium.simulated
    assert [consortium.role_of(name) for name in consortium.hospital_names] == [None] * 3
    assert consortium.bucket_uri("north", Path("/")) == "s3://acme-stroke-north"
    assert consortium.budget("clinic").epsilon < consortium.budget("north").epsilon
    assert consortium.cluster.node_selector == {"fl/pool": "training"}
    assert [t.key for t in consortium.cluster.tolerations] == ["fl/training"]
    for recipe in consortium.routine or ():
        assert yaml.safe_load((ROOT / f"recipes/{recipe}.yaml").read_text())["privacy"]


def test_its_outputs_are_all_that_the_chart_reads() -> None:
    text = (ROOT / "terraform/main/outputs.tf").read_text()
    assert set(given.outputs()) <= set(re.findall(r'^output "(\w+)"', text, re.MULTILINE))


def test_no_value_of_a_secret_is_in_the_code() -> None:
    files = [*(ROOT / "terraform").rglob("*.tf"), *(ROOT / "terraform").rglob("*.example")]
    assert len(files) > 30
    for file in files:
        text = file.read_text()
        assert "secret_version" not in text, file
        assert not re.search(r'(password|secret_string|secret_key|access_key)\s*=\s*"', text), file
        assert not re.search(r"AKIA[0-9A-Z]{16}|-----BEGIN", text), file


@pytest.mark.parametrize("name", ROOTS)
def test_the_provider_is_locked(name: str) -> None:
    lock = (ROOT / f"terraform/{name}/.terraform.lock.hcl").read_text()
    assert 'version     = "5.100.0"' in lock
    assert "h1:" in lock


@pytest.mark.infra
@pytest.mark.parametrize("name", ROOTS)
def test_a_root_is_valid(roots: Path, name: str) -> None:
    done = tf.terraform(roots / name, "validate", "-no-color")
    assert done.returncode == 0, done.stderr


@pytest.mark.infra
@pytest.mark.parametrize("name", ROOTS)
def test_its_own_tests_pass(roots: Path, name: str) -> None:
    messages = tf.run_tests(roots / name)
    (summary,) = [m["test_summary"] for m in messages if m["type"] == "test_summary"]
    assert summary["passed"] >= 4
    assert summary["status"] == "pass"


def change(
    roots: Path, before: str, after: str, settings: str = ""
) -> tuple[dict[str, dict[str, Any]], Any]:
    """Apply one consortium to the mock and plan another: resources of the first, and the plan."""
    folder = roots / "main/tests/changing"
    folder.mkdir(exist_ok=True)
    for name, text in (("before", before), ("after", after)):
        (folder / f"{name}.yaml").write_text(text)
    (folder / "change.tftest.hcl").write_text(
        CHANGING.format(
            before=folder / "before.yaml", after=folder / "after.yaml", settings=settings
        )
    )
    messages = tf.run_tests(roots / "main", "-verbose", "-test-directory=tests/changing")
    made = tf.resources(tf.message(messages, "test_state", "before"))
    return made, tf.message(messages, "test_plan", "after")


def with_hospital(name: str) -> str:
    consortium = yaml.safe_load(EXAMPLE.read_text())
    consortium["hospitals"].append({"name": name})
    return yaml.safe_dump(consortium, sort_keys=False)


@pytest.fixture(scope="module")
def adding(roots: Path) -> tuple[dict[str, dict[str, Any]], Any]:
    """The example applied, and a plan of it with one hospital more."""
    return change(roots, EXAMPLE.read_text(), with_hospital("east"))


@pytest.mark.infra
class TestHospitals:
    def test_adding_one_adds_its_resources_and_no_others(self, adding: Any) -> None:
        expected = {f'module.hospital["east"].{address}': ["create"] for address in OWN}
        assert tf.changes(adding[1]) == expected | LISTS

    def test_removing_one_removes_its_resources_and_no_others(self, roots: Path) -> None:
        _, plan = change(roots, with_hospital("east"), EXAMPLE.read_text())
        expected = {f'module.hospital["east"].{address}': ["delete"] for address in OWN}
        assert tf.changes(plan) == expected | LISTS

    def test_athena_adds_a_database_and_a_table_each(self, roots: Path) -> None:
        example = EXAMPLE.read_text()
        _, plan = change(roots, example, example, "athena = true")
        names = ("north", "south", "clinic")
        assert tf.changes(plan) == {
            f'module.hospital["{name}"].aws_glue_catalog_{kind}[0]': ["create"]
            for name in names
            for kind in ("database.this", "table.records")
        }
        (table,) = [
            each["change"]["after"] for each in plan["resource_changes"]
            if each["address"] == 'module.hospital["north"].aws_glue_catalog_table.records[0]'
        ]  # fmt: skip
        columns = {c["name"]: c["type"] for c in table["storage_descriptor"][0]["columns"]}
        assert (columns["id"], columns["age"], columns["stroke"]) == ("string", "double", "tinyint")
        assert len(columns) == 12

    def test_all_that_is_a_hospitals_says_so(self, adding: Any) -> None:
        tagged = [
            (re.findall(r'hospital\["(\w+)"', address)[0], values["tags"])
            for address, values in adding[0].items()
            if address.startswith("module.hospital") and "tags" in values
        ]
        assert len(tagged) == 3 * 4
        assert all(tags == {"hospital": name} for name, tags in tagged)

    def test_a_buckets_defences(self, adding: Any) -> None:
        for name in ("north", "south", "clinic"):
            prefix = f'module.hospital["{name}"].module.bucket.aws_s3_bucket'
            found = {
                a.removeprefix(prefix): v for a, v in adding[0].items() if a.startswith(prefix)
            }
            block = found["_public_access_block.this"]
            assert all(value for key, value in block.items() if key.startswith(("block", "ignore")))
            assert block["restrict_public_buckets"]
            assert found["_versioning.this"]["versioning_configuration"][0]["status"] == "Enabled"
            (rule,) = found["_ownership_controls.this"]["rule"]
            assert rule["object_ownership"] == "BucketOwnerEnforced"
            (rule,) = found["_server_side_encryption_configuration.this"]["rule"]
            assert not rule["bucket_key_enabled"]
            (rule,) = found["_lifecycle_configuration.this"]["rule"]
            assert rule["abort_incomplete_multipart_upload"][0]["days_after_initiation"] == 7
            assert not found[".this"]["force_destroy"]


@pytest.mark.infra
class TestCluster:
    def test_nodes(self, adding: Any) -> None:
        made, _ = adding
        groups = {v["node_group_name"]: v for a, v in made.items() if "aws_eks_node_group" in a}
        assert groups.keys() == {"system", "training"}
        assert groups["training"]["labels"] == {"fl/pool": "training"}
        assert groups["training"]["taint"] == [
            {"key": "fl/training", "value": "true", "effect": "NO_SCHEDULE"}
        ]
        assert groups["system"]["taint"] == []
        assert {group["ami_type"] for group in groups.values()} == {"AL2023_x86_64_STANDARD"}
        for address, values in made.items():
            if "aws_launch_template" in address:
                (options,) = values["metadata_options"]
                assert options["http_tokens"] == "required"
                assert options["http_put_response_hop_limit"] == 1
        tags = {v["tag"][0]["key"] for a, v in made.items() if "autoscaling_group_tag" in a}
        assert any(tag.endswith("label/fl/pool") for tag in tags)

    def test_control_plane(self, adding: Any) -> None:
        cluster = adding[0]["module.cluster.aws_eks_cluster.this"]
        assert cluster["version"] == "1.35"
        assert cluster["upgrade_policy"] == [{"support_type": "STANDARD"}]
        assert "audit" in cluster["enabled_cluster_log_types"]
        assert cluster["encryption_config"][0]["resources"] == ["secrets"]
        (network,) = cluster["vpc_config"]
        assert (network["endpoint_private_access"], network["endpoint_public_access"]) == (
            True, False,
        )  # fmt: skip
        cni = adding[0]['module.cluster.aws_eks_addon.this["vpc-cni"]']
        assert json.loads(cni["configuration_values"]) == {"enableNetworkPolicy": "true"}

    def test_pod_identity_replaces_the_trust_in_the_issuer_for_controllers(
        self, roots: Path
    ) -> None:
        example = EXAMPLE.read_text()
        _, plan = change(roots, example, example, 'controller_identity = "pod-identity"')
        changed = tf.changes(plan)
        assert [a for a, actions in changed.items() if "delete" in actions] == []
        associations = [a for a in changed if "aws_eks_pod_identity_association" in a]
        assert len(associations) == 3
        assert not [a for a in changed if a.startswith(("module.hospital", "module.coordinator"))]


@pytest.mark.infra
def test_network_and_database(adding: Any) -> None:
    made, _ = adding
    assert len([a for a in made if "aws_subnet.private" in a]) == 3
    assert len([a for a in made if "aws_subnet.public" in a]) == 3
    assert len([a for a in made if "aws_nat_gateway" in a]) == 1
    assert made["module.network.aws_vpc_endpoint.s3"]["vpc_endpoint_type"] == "Gateway"
    database = made["module.database.aws_db_instance.this"]
    assert database["deletion_protection"]
    assert not database["skip_final_snapshot"]
    parameters = made["module.database.aws_db_parameter_group.this"]["parameter"]
    assert {"rds.force_ssl": "1"}.items() <= {p["name"]: p["value"] for p in parameters}.items()
    logs = [v for a, v in made.items() if "aws_cloudwatch_log_group" in a]
    assert len(logs) == 3
    assert all(group["kms_key_id"] and group["retention_in_days"] for group in logs)

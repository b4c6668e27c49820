"""What the workflows' roles cannot do, whoever writes the workflow, and what holds every role."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterator
from typing import Any

import pytest

from fl_assets_tests.infra.applied import listed, role
from fl_assets_tests.infra.simulator import ACCOUNT, EVERYTHING, Request, Simulator

pytestmark = [pytest.mark.infra, pytest.mark.timeout(300)]

BOUNDARY = f"arn:aws:iam::{ACCOUNT}:policy/acme-stroke-boundary"
KEY = f"arn:aws:kms:eu-central-1:{ACCOUNT}:key/1"
BOUND = {"iam:PermissionsBoundary": BOUNDARY}
ELSEWHERE = {"iam:PermissionsBoundary": f"arn:aws:iam::{ACCOUNT}:policy/acme-stroke-mine"}
GIVING = ["CreateRole", "AttachRolePolicy", "PutRolePolicy", "PutRolePermissionsBoundary"]

Made = dict[str, dict[str, Any]]


def policy(bootstrapped: Made, name: str) -> Any:
    return json.loads(bootstrapped[f'aws_iam_role_policy.github["{name}"]']["policy"])


@pytest.fixture
def may(simulator: Simulator, bootstrapped: Made) -> Any:
    """Whether the role that applies may do something to a role of the consortium, or to a key."""
    mine = policy(bootstrapped, "apply")

    def ask(action: str, resource: str, on_resource: Any = None, **context: str) -> bool:
        request = Request(action, resource, role("github-apply"), [mine], on_resource, context)
        return simulator.allowed([request])[0]

    return ask


@pytest.mark.parametrize("action", GIVING)
def test_a_role_gets_rights_within_the_boundary_alone(may: Any, action: str) -> None:
    seen = [may(f"iam:{action}", role("x"), **given) for given in ({}, ELSEWHERE, BOUND)]
    assert seen == [False, False, True]


@pytest.mark.parametrize(
    "action", [*GIVING, "UpdateAssumeRolePolicy", "DeleteRole", "PassRole", "TagRole"]
)
def test_the_pipeline_does_not_change_its_own_roles(may: Any, action: str) -> None:
    assert not may(f"iam:{action}", role("github-apply"), **BOUND)
    assert not may(f"iam:{action}", role("github-another"), **BOUND)


def test_the_boundary_stays_on_a_role_and_as_it_is(may: Any) -> None:
    assert not may("iam:DeleteRolePermissionsBoundary", role("x"), **BOUND)
    for action in ("CreatePolicyVersion", "SetDefaultPolicyVersion", "DeletePolicy"):
        assert not may(f"iam:{action}", BOUNDARY)
    assert not may("iam:CreateUser", f"arn:aws:iam::{ACCOUNT}:user/me")


def test_whom_a_site_role_trusts_is_not_the_pipelines_to_say(may: Any) -> None:
    trust = "iam:UpdateAssumeRolePolicy"
    assert [may(trust, role(name)) for name in ("north-site", "mlflow")] == [False, True]


@pytest.mark.parametrize("action", ["kms:PutKeyPolicy", "kms:UntagResource"])
def test_what_a_hospitals_key_trusts_is_not_the_pipelines_to_say(
    may: Any, planned: Made, action: str
) -> None:
    key = planned['module.hospital["north"].module.key.aws_kms_key.this']
    trusted = json.loads(key["policy"])
    assert key["tags"] == {"hospital": "north"}
    assert not may(action, KEY, trusted, **{"aws:ResourceTag/hospital": "north"})
    assert may(action, KEY, trusted)


@pytest.mark.parametrize(
    ("action", "resource"),
    [
        ("iam:CreateUser", f"arn:aws:iam::{ACCOUNT}:user/me"),
        ("iam:AttachRolePolicy", role("x")),
        ("sts:AssumeRole", role("north-site")),
        ("eks:CreateAccessEntry", f"arn:aws:eks:eu-central-1:{ACCOUNT}:cluster/acme-stroke"),
        ("kms:PutKeyPolicy", KEY),
        ("s3:PutBucketPolicy", "arn:aws:s3:::acme-stroke-north"),
        ("s3:GetObject", "arn:aws:s3:::acme-stroke-terraform/main.tfstate"),
        (
            "secretsmanager:GetSecretValue",
            f"arn:aws:secretsmanager:eu-central-1:{ACCOUNT}:secret:a",
        ),
    ],
)
def test_a_role_that_may_everything_is_held_by_the_boundary(
    simulator: Simulator, bootstrapped: Made, action: str, resource: str
) -> None:
    boundary = json.loads(bootstrapped["aws_iam_policy.boundary"]["policy"])
    request = Request(action, resource, role("x"), [EVERYTHING], None, boundary=boundary)
    assert simulator.allowed([request]) == [False]


def test_every_role_bears_the_boundary_and_has_its_own_rights_within(
    planned: Made, bootstrapped: Made
) -> None:
    roles = [values for address, values in planned.items() if ".aws_iam_role." in address]
    assert len(roles) > 10
    assert {values["permissions_boundary"] for values in roles} == {BOUNDARY}
    statements = json.loads(bootstrapped["aws_iam_policy.boundary"]["policy"])["Statement"]
    allowed = [a for s in statements if s["Effect"] == "Allow" for a in listed(s["Action"])]
    outside = {
        action
        for action in _rights(planned)
        if not any(fnmatch.fnmatchcase(action, pattern) for pattern in allowed)
    }
    assert outside == set()


def _rights(planned: Made) -> Iterator[str]:
    """What the roles' policies allow, those that AWS wrote included."""
    from moto.iam.aws_managed_policies import aws_managed_policies_data

    managed = json.loads(aws_managed_policies_data)
    for address, values in planned.items():
        if ".aws_iam_role_policy." in address:
            document = json.loads(values["policy"])
        elif ".aws_iam_role_policy_attachment." in address:
            document = managed[values["policy_arn"].rpartition("/")[2]]["Document"]
        else:
            continue
        for statement in document["Statement"]:
            if statement["Effect"] == "Allow":
                yield from listed(statement["Action"])

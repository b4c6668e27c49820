"""Evaluation of IAM policies by `@cloud-copilot/iam-simulate`, run by Node."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fl_assets_tests.infra.tool import tool

ACCOUNT = "123456789012"
ANONYMOUS = {"type": "Anonymous"}
EVERYTHING = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}],
}
_FILES = Path(__file__).with_name("iam")


@dataclass(frozen=True)
class Request:
    """One request, and all policies that bear on it.

    Attributes:
        action: as ``s3:GetObject``.
        resource: its ARN.
        role: ARN of the role that asks; nobody in particular if None.
        policies: of that role.
        resource_policy: of the bucket or the key.
        context: further condition keys.
        boundary: beyond which the role can do nothing, whatever its policies say.
    """

    action: str
    resource: str
    role: str | None
    policies: Sequence[Any]
    resource_policy: Any
    context: dict[str, Any] = field(default_factory=dict)
    boundary: Any = None

    def simulation(self) -> dict[str, Any]:
        """The request as the simulator wants it."""
        context: dict[str, Any] = {"aws:SecureTransport": "true", **self.context}
        if self.role:
            context |= {"aws:PrincipalArn": self.role, "aws:PrincipalIsAWSService": "false"}
        boundary = [{"name": "boundary", "policy": self.boundary}] if self.boundary else None
        simulation = {
            "request": {
                "principal": self.role or ANONYMOUS,
                "action": self.action,
                "resource": {"resource": self.resource, "accountId": ACCOUNT},
                "contextVariables": context,
            },
            "identityPolicies": [
                {"name": str(number), "policy": policy}
                for number, policy in enumerate(self.policies)
            ],
            "resourcePolicy": self.resource_policy,
            "serviceControlPolicies": [],
            "resourceControlPolicies": [],
        }
        return simulation | ({"permissionBoundaryPolicies": boundary} if boundary else {})


class Simulator:
    """The simulator, installed into a folder.

    Args:
        folder: an empty one.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for file in _FILES.iterdir():
            if file.is_file():
                shutil.copyfile(file, folder / file.name)
        command = [tool("npm"), "ci", "--no-audit", "--no-fund"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
        if done.returncode:
            pytest.skip(f"npm ci cannot install the simulator: {done.stderr[-300:]}")

    def allowed(self, requests: Sequence[Request]) -> list[bool]:
        """Tell of each request whether AWS would allow it."""
        done = subprocess.run(
            [tool("node"), "simulate.mjs"],
            cwd=self._folder,
            input=json.dumps([request.simulation() for request in requests]),
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return [result == "Allowed" for result in json.loads(done.stdout)]

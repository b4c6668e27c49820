"""The script that makes the bucket of Terraform's states, against moto."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fl_assets_tests.infra import terraform as tf
from fl_assets_tests.infra.conftest import emulated
from fl_assets_tests.infra.tool import tool
from fl_assets_tests.storage.s3_servers import REGION, moto

pytestmark = [pytest.mark.infra, pytest.mark.timeout(500)]

BUCKET = "acme-stroke-terraform"
# Moto cannot be found by names of buckets in the host.
EMULATOR = """\
provider "aws" {
  s3_use_path_style = true
}

terraform {
  backend "s3" {
    key            = "bootstrap.tfstate"
    use_lockfile   = true
    use_path_style = true
  }
}
"""

# Moto takes a denial under a condition for one of everybody, also of Terraform's own state.
BUCKET_POLICY = """\
resource "aws_s3_bucket_policy" "this" {
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { AWS = "arn:aws:iam::123456789012:root" }
      Action    = ["s3:GetObject"]
      Resource  = ["${local.arn}/*"]
    }]
  })
}
"""
# Stands before Terraform, and dies where it would move the state into the bucket.
INTERRUPTED = """\
#!/bin/sh
case "$*" in *-migrate-state*) exit 130 ;; esac
exec {terraform} "$@"
"""


class Account:
    """An account of moto, and a checkout whose bootstrap is filled in."""

    def __init__(self, url: str, folder: Path) -> None:
        self._url = url
        self.terraform = tf.copy_of_roots(folder)
        self.bootstrap = self.terraform / "bootstrap"
        example = self.bootstrap / "terraform.tfvars.example"
        (self.bootstrap / "terraform.tfvars").write_text(example.read_text())
        (self.bootstrap / "emulator_override.tf").write_text(EMULATOR)
        module = self.terraform / "modules/bucket"
        (module / "emulator_override.tf").write_text(BUCKET_POLICY)

    def script(self, path: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run the script, with a folder before those of ``PATH``."""
        variables = tf.environment(**emulated(self._url))
        variables["TF_CLI_ARGS_init"] = "=".join(tf.init_options())
        if path is not None:
            variables["PATH"] = os.pathsep.join([path, variables["PATH"]])
        return subprocess.run(
            [self.terraform / "bootstrap.sh", "-auto-approve", "-no-color"],
            env=variables,
            capture_output=True,
            text=True,
            timeout=240,
        )

    def client(self) -> Any:
        import boto3

        make: Any = boto3.client  # its stubs know services by literal names
        return make(
            "s3", endpoint_url=self._url, region_name=REGION,
            aws_access_key_id="testing", aws_secret_access_key="testing",
        )  # fmt: skip

    def state(self) -> dict[str, Any]:
        """The state in the bucket."""
        answer = self.client().get_object(Bucket=BUCKET, Key="bootstrap.tfstate")
        found: dict[str, Any] = json.loads(answer["Body"].read())
        return found


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Account]:
    tool("terraform")
    with moto(tmp_path / "moto.log", MOTO_IAM_LOAD_MANAGED_POLICIES="true") as url:
        yield Account(url, tmp_path / "checkout")


def test_it_fails_where_nothing_is_filled_in(account: Account) -> None:
    (account.bootstrap / "terraform.tfvars").unlink()
    done = account.script()
    assert done.returncode == 2
    assert "terraform.tfvars.example" in done.stderr


def test_it_goes_on_where_it_was_interrupted_and_then_has_nothing_to_do(
    account: Account, tmp_path: Path
) -> None:
    tf.init(account.bootstrap)
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "terraform").write_text(INTERRUPTED.format(terraform=tool("terraform")))
    (folder / "terraform").chmod(0o755)

    done = account.script(str(folder))
    assert done.returncode == 130, done.stderr
    assert (account.bootstrap / "local.tfstate").exists()
    assert not (account.terraform / "main/backend.hcl").exists()

    done = account.script()
    assert done.returncode == 0, done.stderr
    assert "0 added, 0 changed, 0 destroyed" in done.stdout
    assert len(account.state()["resources"]) > 10
    left = {path.name for path in account.bootstrap.iterdir()}
    assert not left & {"local.tfstate", "local.tfstate.backup", "local_override.tf"}
    assert f'bucket = "{BUCKET}"' in (account.terraform / "main/backend.hcl").read_text()

    lineage = account.state()["lineage"]
    done = account.script()
    assert done.returncode == 0, done.stderr
    assert "0 added, 0 changed, 0 destroyed" in done.stdout
    assert account.state()["lineage"] == lineage

"""``deploy/deploy.sh``: its help, its dry run, and what it says before it does anything."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fl_assets_tests.conftest import REPOSITORY

SCRIPT = REPOSITORY / "deploy" / "deploy.sh"


def deploy(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(SCRIPT), *arguments],
        env={"PATH": os.environ["PATH"], "PYTHON": sys.executable, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def tools(folder: Path, **scripts: str) -> str:
    """Make a PATH of stand-ins for the tools that are named, and of what every system has."""
    for name in ("bash", "dirname", "realpath", "grep", "cat", "sh"):
        (folder / name).symlink_to(str(shutil.which(name)))
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return str(folder)


def test_help_and_a_wrong_option() -> None:
    assert "usage: deploy/deploy.sh" in deploy("--help").stdout
    wrong = deploy("--everything")
    assert (wrong.returncode, "usage:" in wrong.stderr) == (2, True)


def test_a_dry_run_names_every_step_in_order() -> None:
    example = str(REPOSITORY / "examples" / "eks" / "consortium.yaml")

    done = deploy(DRY_RUN="1", CONSORTIUM=example, TAG="")

    assert done.returncode == 0, done.stderr
    steps = [
        "main plan", "deploy.removals", "main apply", "build --target site", "update-kubeconfig",
        "install fl-consortium",
    ]  # fmt: skip
    places = [done.stdout.index(step) for step in steps]
    assert places == sorted(places)
    assert "Deployed" not in done.stdout
    # What lies beside consortium.yaml comes on top, with what its ingress needs.
    assert "/fl-consortium.overrides.yaml" in done.stdout
    assert "Secret ingress-oidc in namespace mlops" in done.stdout


def test_overrides_may_lie_elsewhere(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("dagster: {}\n")
    example = str(REPOSITORY / "examples" / "eks" / "consortium.yaml")

    done = deploy(DRY_RUN="1", CONSORTIUM=example, OVERRIDES=str(mine), TAG="4f2a9c1")

    assert "/dagster.overrides.yaml" in done.stdout
    assert "/fl-consortium.overrides.yaml" not in done.stdout


def test_with_a_tag_there_are_charts_alone() -> None:
    example = str(REPOSITORY / "examples" / "eks" / "consortium.yaml")

    done = deploy(DRY_RUN="1", CONSORTIUM=example, TAG="4f2a9c1")

    assert done.returncode == 0, done.stderr
    assert "main apply" not in done.stdout
    assert "build" not in done.stdout.replace("build/", "")
    assert "helm upgrade --install dagster" in done.stdout


@pytest.mark.parametrize(
    ("scripts", "said"),
    [
        ({"git": "", "aws": ""}, "there is no `terraform`"),
        (
            dict.fromkeys(("git", "aws", "terraform", "kubectl", "docker"), "")
            | {"helm": "echo v3.19.0"},
            "helm is not of version 4",
        ),
        (
            dict.fromkeys(("git", "terraform", "kubectl", "docker"), "")
            | {"helm": "echo v4.3.1", "aws": "exit 255"},
            "no login at AWS",
        ),
        (
            dict.fromkeys(("git", "terraform", "kubectl", "docker", "aws"), "")
            | {"helm": "echo v4.3.1"},
            "elsewhere.yaml is not there: set CONSORTIUM",
        ),
    ],
)
def test_what_is_missing_is_said_first(tmp_path: Path, scripts: dict[str, str], said: str) -> None:
    done = deploy(PATH=tools(tmp_path, **scripts), CONSORTIUM="elsewhere.yaml")

    assert done.returncode == 1
    assert said in done.stderr
    assert done.stdout == ""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout, filled in, whose plan removes a bucket; Terraform writes down its calls."""
    shutil.copytree(
        SCRIPT.parent, tmp_path / "deploy", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("bootstrap/terraform.tfvars", "main/terraform.tfvars", "main/backend.hcl"):
        file = tmp_path / "terraform" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    (tmp_path / "consortium.yaml").touch()
    change = {"actions": ["delete"], "before": {"bucket": "acme-north"}}
    plan = {"resource_changes": [{"type": "aws_s3_bucket", "change": change}]}
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    return tmp_path


@pytest.mark.parametrize(
    ("in_bucket", "answer", "said"),
    [
        ('{"Versions": [{"Key": "records/1.parquet"}]}', "yes", "acme-north: it is not empty"),
        ("{}", "", "error: not applied"),
    ],
)
def test_a_plan_that_must_not_be_is_not_applied(
    checkout: Path, in_bucket: str, answer: str, said: str
) -> None:
    (checkout / "bin").mkdir()
    calls = checkout / "calls"
    path = tools(
        checkout / "bin",
        **dict.fromkeys(("git", "kubectl", "docker"), ""),
        helm="echo v4.3.1",
        aws=f"echo '{in_bucket}'",
        terraform=f'echo "$2" >> {calls}; [ "$2" != show ] || cat {checkout}/plan.json',
    )

    done = subprocess.run(
        ["bash", str(checkout / "deploy/deploy.sh")],
        env={"PATH": path, "PYTHON": sys.executable},
        input=answer,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert said in done.stderr
    assert calls.read_text().split() == ["init", "plan", "show"]

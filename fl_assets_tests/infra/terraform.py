"""Terraform over a copy of this repository's roots, and what its JSON says."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from fl_assets_tests.infra.tool import ROOT, tool

PROVIDER = "registry.terraform.io/hashicorp/aws"
_PLUGINS = (
    "~/.terraform.d/plugins",
    "/usr/local/share/terraform/plugins",
    "/usr/share/terraform/plugins",
    "/opt/tf-plugins",
)
# What a root reads outside of terraform/.
_COPIED = ("terraform", "examples/eks", "fl_assets/cohorts", "consortium.yaml")


def copy_of_roots(folder: Path) -> Path:
    """Copy the roots and what they read, so that no run leaves anything in the checkout."""
    ignore = shutil.ignore_patterns(".terraform", "*.tfstate*", "terraform.tfvars", "backend.hcl")
    for name in _COPIED:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=ignore)
        else:
            shutil.copyfile(source, target)
    return folder / "terraform"


def environment(**variables: str) -> dict[str, str]:
    """The environment of Terraform: nothing of this machine's own account gets into it."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "TF_"))}
    return {**kept, "TF_IN_AUTOMATION": "1", "CHECKPOINT_DISABLE": "1", **variables}


def init_options() -> list[str]:
    """Where ``terraform init`` has the provider from: a folder, or else the registry."""
    named = os.environ.get("FLA_TF_PLUGIN_DIR")
    folders = [named] if named else _PLUGINS
    found = (Path(folder).expanduser() for folder in folders)
    return next((["-plugin-dir", str(f)] for f in found if (f / PROVIDER).is_dir()), [])


def terraform(
    folder: Path, *arguments: str, seconds: float = 120, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run Terraform in a root; what it printed is in the error if it takes too long."""
    return subprocess.run(
        [tool("terraform"), *arguments],
        cwd=folder,
        env=environment(**variables),
        text=True,
        capture_output=True,
        timeout=seconds,
    )


def init(folder: Path) -> None:
    """Install the provider into a root; skip the test where it is not to be had."""
    done = terraform(folder, "init", "-backend=false", "-input=false", *init_options())
    if done.returncode:
        pytest.skip(f"the provider is absent: set FLA_TF_PLUGIN_DIR ({done.stderr[-300:]})")


def run_tests(folder: Path, *options: str, seconds: float = 300, **variables: str) -> list[Any]:
    """Run ``terraform test`` and return its messages; fail with its diagnostics."""
    done = terraform(folder, "test", "-json", *options, seconds=seconds, **variables)
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    errors = [m["diagnostic"] for m in messages if m["type"] == "diagnostic"]
    problems = [
        f"{e['summary']}: {e.get('detail', '')}" for e in errors if e["severity"] == "error"
    ]
    assert done.returncode == 0, "\n".join(problems) or done.stderr
    return messages


def message(messages: Sequence[Any], kind: str, run: str) -> Any:
    """Return the state or plan of a run, as ``terraform show -json`` has it."""
    (found,) = [m[kind] for m in messages if m["type"] == kind and m["@testrun"] == run]
    return found


def resources(state: Any) -> dict[str, dict[str, Any]]:
    """Return the values of each managed resource of a run's state by its address."""
    return {
        each["address"]: each["values"]
        for module in _modules(state["root_module"])
        for each in module.get("resources", [])
        if each["mode"] == "managed"
    }


def _modules(module: Any) -> Iterator[Any]:
    yield module
    for child in module.get("child_modules", []):
        yield from _modules(child)


def changes(plan: Any) -> dict[str, list[str]]:
    """Return what a plan does to each resource, but for those that it leaves alone."""
    found = {each["address"]: each["change"]["actions"] for each in plan["resource_changes"]}
    return {address: actions for address, actions in found.items() if actions != ["no-op"]}

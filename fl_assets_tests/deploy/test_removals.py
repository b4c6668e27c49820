"""The look at a plan before it is applied; the AWS command line is a stand-in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fl_assets_tests.conftest import REPOSITORY

AWS = """#!{python} -SE
import pathlib, sys
answer = pathlib.Path(__file__).with_name(sys.argv[sys.argv.index("--bucket") + 1])
text = answer.read_text()
sys.exit(text) if text.startswith("An error") else print(text)
"""
DENIED = "An error occurred (AccessDenied) when calling ListObjectVersions: Access Denied"
GONE = "An error occurred (NoSuchBucket) when calling ListObjectVersions: no such bucket"


def bucket(name: str, *actions: str, force: bool = False) -> dict[str, Any]:
    before = {"bucket": name, "force_destroy": force}
    return {"type": "aws_s3_bucket", "change": {"actions": actions, "before": before}}


def look(
    folder: Path, *changes: dict[str, Any], **answers: str
) -> subprocess.CompletedProcess[str]:
    program = folder / "aws"
    program.write_text(AWS.format(python=sys.executable))
    program.chmod(0o755)
    for name, text in answers.items():
        (folder / name).write_text(text)
    return read(folder, json.dumps({"resource_changes": changes}))


def read(folder: Path, plan: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploy.removals"],
        cwd=REPOSITORY,
        env=os.environ | {"PATH": str(folder)},
        input=plan,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("left", ["Versions", "DeleteMarkers"])
def test_a_bucket_with_something_in_it_is_not_removed(tmp_path: Path, left: str) -> None:
    answers = {"north": "{}", "south": json.dumps({left: [{"Key": "records/1.parquet"}]})}

    done = look(tmp_path, bucket("north", "delete"), bucket("south", "delete"), **answers)

    assert done.returncode == 1
    assert "removal of south: it is not empty: docs/runbooks" in done.stderr
    assert "removal of north: empty" in done.stdout


def test_one_that_is_made_anew_is_removed_too(tmp_path: Path) -> None:
    done = look(tmp_path, bucket("north", "delete", "create"), north='{"Versions": [{}]}')
    assert done.returncode == 1


def test_an_empty_one_and_one_that_is_gone_may_go(tmp_path: Path) -> None:
    # The command line prints nothing at all of an empty bucket.
    changes = [bucket("north", "delete"), bucket("south", "delete")]
    done = look(tmp_path, *changes, north="", south=GONE)
    assert (done.returncode, done.stderr) == (0, "")


def test_one_that_does_not_answer_is_not_removed(tmp_path: Path) -> None:
    done = look(tmp_path, bucket("north", "delete"), north=DENIED)
    assert done.returncode == 1
    assert "AccessDenied" in done.stderr


def test_nobody_asks_of_those_that_stay_or_are_disposable(tmp_path: Path) -> None:
    other = {"type": "aws_iam_role", "change": {"actions": ["delete"], "before": {}}}
    changes = [bucket("north", "update"), bucket("south", "delete", force=True), other]
    assert look(tmp_path, *changes).returncode == 0


def test_without_a_plan_nothing_is_said_to_be_safe(tmp_path: Path) -> None:
    done = read(tmp_path, "")
    assert done.returncode == 1
    assert done.stderr.startswith("no plan on standard input: `terraform show -json` failed")

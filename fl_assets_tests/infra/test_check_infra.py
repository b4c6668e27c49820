"""`make check-infra`, and that no test falls between `make test` and `make test-infra`."""

import subprocess
import sys

import pytest

from fl_assets_tests.infra.tool import ROOT, tool
from tools import check_infra


@pytest.fixture
def one_tool(tmp_path, monkeypatch):
    """check_infra where nothing but a hadolint of our own is on the path."""

    def put(script):
        tool = tmp_path / "hadolint"
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(0o755)

    monkeypatch.setattr(check_infra, "PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["check_infra"])
    return put


def ending():
    with pytest.raises(SystemExit) as ended:
        check_infra.main()
    return ended.value.code


def test_a_problem_is_told(one_tool, capsys):
    one_tool("echo DL9999 something; exit 1")
    assert ending() == 1
    told = capsys.readouterr().out
    assert "problem  hadolint\nDL9999 something" in told
    assert "skipped  zizmor: zizmor is not on the path" in told


def test_it_ends_well_if_what_is_there_finds_nothing(one_tool, capsys):
    one_tool("exit 0")
    assert ending() == 0
    assert "passed   hadolint" in capsys.readouterr().out


def test_it_may_insist_on_every_tool(one_tool, monkeypatch):
    one_tool("exit 0")
    monkeypatch.setattr(sys, "argv", ["check_infra", "--all"])
    assert ending() == 1


def test_every_script_of_the_shell_is_looked_at():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this is no checkout of git")
    bash = {
        name
        for name in listed.stdout.splitlines()
        if (ROOT / name).is_file() and (ROOT / name).read_bytes().startswith(b"#!/usr/bin/env bash")
    }
    assert bash == set(check_infra.SCRIPTS)


def test_a_tool_is_for_tests_that_make_test_infra_runs():
    # As this one is not.
    with pytest.raises(AssertionError, match="mark it infra"):
        tool("sh")

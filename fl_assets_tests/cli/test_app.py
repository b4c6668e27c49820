from __future__ import annotations

import subprocess
import sys

from fl_assets_tests.cli.fla import Fla


def test_help_names_every_command(fla: Fla) -> None:
    result = fla("--help")
    assert result.code == 0
    for command in (
        "demo",
        "status",
        "recipes",
        "run",
        "compare",
        "sweep",
        "budget",
        "verify-ledger",
        "settle",
        "budget",
        "verify-ledger",
        "settle",
        "validate",
        "predict",
        "dev",
    ):
        assert command in result.out


def test_help_needs_none_of_the_slow_imports() -> None:
    code = (
        "import sys, fl_assets.cli\n"
        "print([name for name in ('dagster', 'mlflow', 'optuna', 'torch') if name in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"

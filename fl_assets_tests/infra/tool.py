"""The command-line tools of the infrastructure, which need not be there."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

_PATH = os.pathsep.join([str(ROOT / ".venv-infra/bin"), os.environ.get("PATH", "")])


_of_test_infra = True


def begins(item: pytest.Item) -> None:
    """Be told of the test that is next."""
    global _of_test_infra
    _of_test_infra = item.get_closest_marker("infra") is not None


def tool(name: str) -> str:
    """Return where a tool is; skip the test where it is not."""
    # `make test` would skip it for want of the tool, and `make test-infra` never come to it.
    assert _of_test_infra, f"a test that needs {name} belongs to `make test-infra`: mark it infra"
    found = shutil.which(name, path=_PATH)
    if found is None:
        pytest.skip(f"{name} is absent: `make .venv-infra/.done` installs what can be installed")
    return found


def run(*command: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Run a command in the checkout and return what came of it."""
    return subprocess.run(command, cwd=ROOT, text=True, capture_output=True, **options)  # type: ignore[call-overload,no-any-return]

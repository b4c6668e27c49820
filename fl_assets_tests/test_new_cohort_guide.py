"""The guide to a cohort of one's own, followed to the letter in a fresh copy of the repository."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fl_assets.settings import Settings
from fl_assets.tracking.models import CHAMPION, Registry
from fl_assets.tracking.runs import Tracking
from fl_assets_tests.conftest import REPOSITORY

GUIDE = Path("docs/guides/new-cohort.md")
SECONDS = 600
# Their work is done: the tests run in that environment.
INSTALLATION = ["make .venv/.demo", "source .venv/bin/activate"]


def copy_of_tracked_files(folder: Path) -> None:
    """Copy what a clone would hold."""
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, check=True, text=True
    ).stdout.split("\0")
    for name in filter(None, names):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, target, follow_symlinks=False)


def commands(guide: str) -> list[str]:
    """Return the commands of the first block, without comments."""
    (block, *_) = re.findall(r"^```bash\n(.*?)^```", guide, re.MULTILINE | re.DOTALL)
    lines = [line.partition(" #")[0].strip() for line in block.splitlines()]
    return [line for line in lines if line]


@pytest.mark.timeout(SECONDS + 60)
def test_from_a_clean_clone_to_a_federated_model_by_the_guide_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: pytest.RecordProperty
) -> None:
    clone = tmp_path / "clone"
    copy_of_tracked_files(clone)
    found = commands((clone / GUIDE).read_text())
    assert found[:2] == INSTALLATION
    assert {"fla validate", "fla upload", "fla demo", "fla status", "fla predict"} <= {
        " ".join(line.split()[:2]) for line in found
    }
    for name in [name for name in os.environ if name.startswith(("FLA_", "MLFLOW_", "DAGSTER_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    # Else `fla` is the one of the checkout that is installed.
    monkeypatch.setenv("PYTHONPATH", str(clone))

    started = time.monotonic()
    followed = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(found[2:])],
        cwd=clone,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    seconds = time.monotonic() - started
    record_property("seconds", seconds)
    print(f"the guide's commands took {seconds:.0f} s")

    assert followed.returncode == 0, followed.stdout[-3000:] + followed.stderr[-3000:]
    # The table that the guide shows.
    assert re.search(r"fedavg-lr +federated +0\.\d+ \(3 of 4", followed.stdout)
    (variables,) = [line for line in found if line.startswith("export ")]
    for name, value in (word.split("=") for word in variables.split()[1:]):
        monkeypatch.setenv(name, str(clone / value))
    settings = Settings.from_environment()
    tracking = Tracking(settings.tracking_uri, settings.consortium.name)
    champion = Registry(tracking, settings.model_name).alias(CHAMPION)
    assert champion is not None
    assert settings.home == clone / ".fla-heart"

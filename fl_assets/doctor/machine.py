"""Checks of the machine or pod: Python, packages, disk, Java."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from importlib import metadata, util
from pathlib import Path

from fl_assets.doctor.checks import Check, NotCheckedError, ProblemError
from fl_assets.settings import Settings
from fl_assets.site.engines import SPARK

LOCK = Path("requirements.lock")
FREE_GIB = 1.0
"""Disk below which a training may end in the middle: models, checkpoints and copies of uploads."""

_JAVA = {8, 11, 17}  # that PySpark 3.5 runs on
_SHOWN = 5


def machine_checks(settings: Settings) -> Iterator[Check]:
    """Return what the machine needs under these settings."""
    yield Check("Python", _python, "Install the Python that pyproject.toml asks for.")
    yield Check(
        "packages",
        partial(_packages, LOCK),
        f"Run `pip install -r {LOCK}` in this environment, as `make demo` does.",
    )
    yield Check(
        "data folder",
        partial(_data_folder, settings.home),
        "Set FLA_HOME to a folder that this user may write to, on a disk with room.",
    )
    if settings.intake_engine == SPARK:
        yield Check(
            "Spark",
            _spark,
            "Install the extra `spark` and Java 8, 11 or 17, or set FLA_INTAKE to local.",
        )


def _python() -> str:
    from packaging.specifiers import SpecifierSet

    asked = metadata.metadata("fl_assets")["Requires-Python"]
    found = ".".join(map(str, sys.version_info[:3]))
    if found not in SpecifierSet(asked):
        raise ProblemError(f"this is Python {found}, and {asked} is needed")
    return f"Python {found} ({asked} is needed)"


def _packages(lock: Path) -> str:
    if not lock.is_file():
        raise NotCheckedError(f"{lock} is not in this folder: an image has what it was built from")
    pins = re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", lock.read_text(), re.MULTILINE)
    wrong = [said for said in (_differs(name, pin) for name, pin in pins) if said]
    if wrong:
        more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise ProblemError(f"not as {lock} has it: {', '.join(wrong[:_SHOWN])}{more}")
    return f"all {len(pins)} as {lock} has them"


def _differs(name: str, pin: str) -> str | None:
    try:
        found = metadata.version(name)
    except metadata.PackageNotFoundError:
        return f"{name} {pin} is missing"
    # A build of its own, such as torch's for CPUs, says so behind a plus sign.
    return None if found.partition("+")[0] == pin else f"{name} is {found} instead of {pin}"


def _data_folder(home: Path) -> str:
    # The folder is made at the first run, with everything above it.
    there = next(folder for folder in (home, *home.parents) if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise ProblemError(f"{there} cannot be written to: {error.strerror}") from error
    free = shutil.disk_usage(there).free / 2**30
    if free < FREE_GIB:
        raise ProblemError(f"{free:.1f} GiB are free at {there}, and {FREE_GIB:g} are needed")
    return f"{home} can be written to; {free:.0f} GiB are free"


def _spark() -> str:
    if util.find_spec("pyspark") is None:
        raise ProblemError("PySpark is not installed")
    java = shutil.which("java")
    if java is None:
        raise ProblemError("there is no `java` on the PATH")
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    # "1.8.0_392" until Java 8, "17.0.9" since.
    version = re.search(r'version "(?:1\.)?(\d+)', said)
    if version is None or int(version[1]) not in _JAVA:
        raise ProblemError(f"Java is {version[1] if version else 'of no known version'}")
    return f"PySpark {metadata.version('pyspark')} on Java {version[1]}"

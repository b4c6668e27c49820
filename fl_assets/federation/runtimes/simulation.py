"""The simulation runtime: Flower's Ray engine, for more virtual hospitals than threads can play."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from threading import Thread, current_thread, main_thread
from types import ModuleType

from flwr.app import Context, Message, RecordDict, UserConfig

from fl_assets.errors import FlAssetsError
from fl_assets.federation.flower_internals import (
    PROCESS_TURN,
    client_error,
    simulation_engine,
    state_over_the_wire,
)
from fl_assets.federation.job import FederationError, FederationJob, FederationResult, load_result
from fl_assets.federation.strategies.wave import NO_REPLY
from fl_assets.storage import open_store

_LOOPBACK = "127.0.0.1"
# Ray reads these when it is imported and when it starts.
_ENVIRONMENT = {
    # The one switch that makes it listen on loopback only, on whatever system ...
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # ... where other users of the machine could still make its workers run anything. Ray keeps
    # the first token that a process shows it.
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
    # No report to its makers, no environment of its own under `uv run`, no tip about GPUs.
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


class RayMissingError(FederationError):
    """Ray is not installed."""

    def __init__(self) -> None:
        super().__init__(
            "runtime simulation needs Ray, which is not installed: "
            "pip install 'fl_assets[simulation]'"
        )


class RayNotStartedError(FederationError):
    """Ray is installed and did not start."""

    def __init__(self, reason: object) -> None:
        super().__init__(f"runtime simulation could not start Ray: {reason}")


class LateSiteError(FlAssetsError):
    """A site that has not answered when nobody waits for its answer any more."""

    def __init__(self) -> None:
        super().__init__(NO_REPLY)


@dataclass(frozen=True)
class _InTime:
    """The client app in a worker, which plays many hospitals: none may keep it for ever.

    Attributes:
        deadline: seconds from the making of a message, after which its answer is of no use.
    """

    deadline: float

    def __call__(self, message: Message, context: Context) -> Message:
        # A worker's log comes out at the driver.
        logging.getLogger("flwr").setLevel(logging.ERROR)
        # A copy: a site that is given up on may still write to it.
        own = state_over_the_wire(context)
        try:
            reply = self._answer(message, own)
        except Exception as error:
            # The engine would put the worker's whole traceback into its reply.
            return client_error(error, message)
        context.state = own.state
        return reply

    def _answer(self, message: Message, context: Context) -> Message:
        from fl_assets.federation.client_app import app

        left = message.metadata.created_at + self.deadline - time.time()
        if left <= 0:
            raise LateSiteError
        answer = Future[Message]()

        def work() -> None:
            try:
                answer.set_result(app(message, context))
            except Exception as error:
                answer.set_exception(error)

        Thread(target=work, name="site", daemon=True).start()
        try:
            return answer.result(timeout=left)
        except TimeoutError:
            raise LateSiteError from None


class SimulationRuntime:
    """Runs a job with every hospital in one of a few worker processes of Ray, on this machine.

    Ray takes seconds to start and Flower's engine looks for messages ten times a second, so this
    pays where a round takes longer than that.

    Args:
        cpus: worker processes.
    """

    def __init__(self, cpus: int = 2) -> None:
        self._cpus = cpus

    def run(self, job: FederationJob) -> FederationResult:
        """Train; see :meth:`fl_assets.federation.runtimes.base.Runtime.run`.

        Raises:
            RayMissingError: it is an extra of this package.
            RayNotStartedError: for example for want of memory.
        """
        from fl_assets.federation.server_app import app as server_app

        run_config = job.run_config()
        run_id = zlib.crc32(f"{job.run}{time.time_ns()}".encode())
        context = Context(
            run_id=run_id, node_id=1, node_config={}, state=RecordDict(), run_config=run_config
        )
        nodes: dict[str, UserConfig] = {
            name: {**node.to_node()} for name, node in job.nodes().items()
        }
        client_app = _InTime(job.recipe.round_deadline)
        with (
            PROCESS_TURN,
            _ray(min(self._cpus, len(nodes) or 1)),
            simulation_engine(client_app, nodes, run_config, run_id) as grid,
        ):
            server_app(grid, context)
        return load_result(open_store(job.output), job.run)


@contextmanager
def _ray(cpus: int) -> Iterator[None]:
    """Have Ray up, for this process alone; leave no process, file, variable or handler behind."""
    with _environment(), _sigterm(), TemporaryDirectory(prefix="ray-") as folder:
        try:
            import ray
        except ImportError:
            raise RayMissingError from None
        if ray.util.get_node_ip_address() != _LOOPBACK:  # type: ignore[no-untyped-call]
            raise RayNotStartedError(
                "this process imported it before, when it was not told to stay on loopback: start "
                "the run in a process of its own"
            )
        try:
            _start(ray, cpus, folder)
            yield
        finally:
            ray.shutdown()


def _start(ray: ModuleType, cpus: int, folder: str) -> None:
    try:
        ray.init(
            # Never somebody else's cluster.
            address="local",
            num_cpus=cpus,
            include_dashboard=False,
            logging_level=logging.ERROR,
            _node_ip_address=_LOOPBACK,
            # Its own place for logs, which may tell of rows, is open to every user.
            _temp_dir=folder,
        )
    except Exception as error:
        # Of what type depends on what it wanted for.
        raise RayNotStartedError(error) from error


@contextmanager
def _environment() -> Iterator[None]:
    """Set Ray's variables for a while; Ray and its engine set others."""
    before = dict(os.environ)
    os.environ.update(_ENVIRONMENT)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _sigterm() -> Iterator[None]:
    """Put the handler back that Ray replaces with its own."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if current_thread() is main_thread() and before is not None:
            signal.signal(signal.SIGTERM, before)

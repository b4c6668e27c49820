"""The server's part of a deployment: a SuperLink, and an executor of the server app per run."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
from cryptography.hazmat.primitives.asymmetric import ec

from fl_assets.federation.deployment.app import RunOrder, bundle
from fl_assets.federation.deployment.children import Child, ProcessDiedError, announced_file
from fl_assets.federation.deployment.executor import ExecutorArguments
from fl_assets.federation.deployment.pki import ServerFiles
from fl_assets.federation.deployment.superlink import SuperLinkArguments
from fl_assets.federation.flower_internals.control import Control
from fl_assets.federation.job import FederationError, FederationJob

_POLL_SECONDS = 0.02


class RunFailedError(FederationError):
    """The server app of a deployed run raised; the text is its own."""


class SiteNotOnlineError(FederationError):
    """A SuperNode did not get to the SuperLink."""

    def __init__(self, away: Collection[str], seconds: float, where: str) -> None:
        super().__init__(
            f"{', '.join(sorted(away))} did not get to the SuperLink within {seconds:g} s; {where}"
        )


class LinkError(FederationError):
    """The SuperLink does not do what it was asked for."""


class Server:
    """A SuperLink and the executor of the next run's server app.

    Args:
        folder: of the run.
        files: certificate of the SuperLink.
        secret: file with its SuperExec secret.
        terminal: descriptor of where progress is shown; the executor's log if None.
        public: IP address and port where the SuperLink listens beside loopback, for sites of other
            machines.

    Attributes:
        address: ``host:port`` of the SuperLink on loopback, from when it is ready.
    """

    def __init__(
        self,
        folder: Path,
        files: ServerFiles,
        secret: Path,
        terminal: int | None,
        public: tuple[str, int] | None = None,
    ) -> None:
        self.address = ""
        self._folder = folder
        self._files = files
        self._secret = secret
        self._terminal = terminal
        self._public = public
        self._control: Control | None = None
        self._executor: Child | None = None
        self._superlink = Child(
            "superlink",
            "fl_assets.federation.deployment.superlink",
            SuperLinkArguments(
                announced=announced_file(folder, "superlink"),
                ca=files.ca,
                certificate=files.certificate,
                key=files.key,
                secret=secret,
                public=public,
            ),
            folder,
            {},
        )

    def _endpoint(self) -> dict[str, str]:
        """Return where metrics are served beyond this machine, if the SuperLink is."""
        if self._public is None:
            return {}
        files = {"certificate": str(self._files.certificate), "key": str(self._files.key)}
        return {"metrics-endpoint": json.dumps({"host": self._public[0], **files})}

    @property
    def processes(self) -> list[Child]:
        """Those that should run."""
        return [c for c in (self._superlink, self._executor) if c is not None]

    def start_executor(self) -> None:
        """Start the executor of the next run, which waits for the SuperLink."""
        self._executor = Child(
            "server",
            "fl_assets.federation.deployment.executor",
            ExecutorArguments(
                half="server",
                announced=announced_file(self._folder, "server"),
                runtime=announced_file(self._folder, "superlink"),
                secret=self._secret,
                ca=self._files.ca,
                terminal=self._terminal,
            ),
            self._folder,
            own_environment(),
            keep=() if self._terminal is None else (self._terminal,),
        )

    def connect(self) -> None:
        """Wait until the SuperLink is ready.

        Raises:
            ProcessDiedError, NotStartedError: it will not be.
        """
        self.address = self._superlink.await_announced()
        self._control = Control(self.address, self._files.ca.read_bytes())

    def register(self, name: str, key: ec.EllipticCurvePublicKey) -> int:
        """Let whoever has the private key be a node of this name; return the node's id.

        Raises:
            LinkError, ProcessDiedError: the SuperLink does not.
        """
        with self._link() as control:
            return control.register(name, key)

    def online(self) -> set[str]:
        """Return the names of the nodes that are connected.

        Raises:
            LinkError, ProcessDiedError: the SuperLink does not say.
        """
        with self._link() as control:
            return control.online()

    def await_sites(
        self, names: Collection[str], seconds: float, where: str, check: Callable[[], None]
    ) -> None:
        """Wait until nodes are connected.

        Args:
            names: of the nodes.
            seconds: to wait.
            where: to look if they are not, for the error.
            check: called again and again; it may raise.

        Raises:
            SiteNotOnlineError: they are not.
            LinkError, ProcessDiedError: the SuperLink is gone.
        """
        end = time.monotonic() + seconds
        while away := set(names) - self.online():
            check()
            if time.monotonic() > end:
                raise SiteNotOnlineError(away, seconds, where)
            time.sleep(_POLL_SECONDS)

    def run(self, job: FederationJob, meanwhile: Callable[[], None]) -> None:
        """Train; the result is in the job's output store.

        Args:
            job: whose sites are online.
            meanwhile: called again and again; it may raise.

        Raises:
            RunFailedError: the server app raised.
            ProcessDiedError: the SuperLink or the server app's process died.
            LinkError: the SuperLink did not take the run.
        """
        if self._executor is None:
            self.start_executor()
        executor, self._executor = self._executor, None
        assert executor is not None
        order = RunOrder({**job.run_config(), **self._endpoint()}, tuple(job.sites))
        try:
            with self._link() as control:
                run_id = control.start(bundle(), order.to_wire())
            self._follow(run_id, executor, meanwhile)
        finally:
            executor.kill()

    def kill(self) -> None:
        """End the processes; without asking, for none holds what must be saved."""
        for child in self.processes:
            child.kill()
        if self._control is not None:
            self._control.close()

    def _follow(self, run_id: int, executor: Child, meanwhile: Callable[[], None]) -> None:
        try:
            while executor.code is None:
                self._superlink.check()
                meanwhile()
                time.sleep(_POLL_SECONDS)
        finally:
            if executor.code != 0 and self._control is not None:
                # A run that has failed by itself is over already.
                with suppress(httpx.HTTPError):
                    self._control.stop(run_id)
        if executor.code != 0:
            with self._link() as control:
                failure = control.failure(run_id)
            if failure:
                raise RunFailedError(failure)
            raise ProcessDiedError(executor)

    @contextmanager
    def _link(self) -> Iterator[Control]:
        assert self._control is not None
        try:
            yield self._control
        except httpx.HTTPError as error:
            # The end of a process is seen later than that of its connections.
            self._superlink.check(patience=5.0)
            raise LinkError(
                f"the SuperLink at {self.address} does not answer as it should: {error}; see its "
                f"log in {self._folder}"
            ) from error


def own_environment() -> dict[str, str]:
    """Return this process's environment for an executor that has its rights."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("FLWR_", "OMP_"))}


def duplicate_of_stderr() -> int | None:
    """Return a descriptor by which a child can write where this process's errors go."""
    try:
        return os.dup(2)
    except OSError:
        # A daemon has none.
        return None

"""A whole deployment on this machine: real SuperLink, real SuperNodes, on loopback, with TLS."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import RLock
from types import TracebackType
from typing import Self

import httpx

from fl_assets.federation.deployment.app import RunOrder, bundle
from fl_assets.federation.deployment.children import (
    START_SECONDS,
    Child,
    ProcessDiedError,
    announced_file,
)
from fl_assets.federation.deployment.executor import ExecutorArguments
from fl_assets.federation.deployment.pki import Authority, new_secret
from fl_assets.federation.deployment.site import Site
from fl_assets.federation.deployment.superlink import SuperLinkArguments
from fl_assets.federation.flower_internals.control import Control, say_goodbye
from fl_assets.federation.job import FederationError, FederationJob, FederationResult, load_result
from fl_assets.federation.site_config import SiteConfig
from fl_assets.storage import open_store

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.02


class RunFailedError(FederationError):
    """The server app of a deployed run raised; the text is its own."""


class OtherSitesError(FederationError):
    """A job is about sites that the deployment does not have."""


class SiteNotOnlineError(FederationError):
    """A SuperNode runs and does not get to the SuperLink."""


class LinkError(FederationError):
    """The SuperLink does not do what it was asked for."""


class Deployment:
    """A SuperLink, and a SuperNode with an executor per hospital, for as long as the context lasts.

    The processes find their keys, addresses and logs in a folder of the run, which nobody else can
    read. None of them outlives this process.

    Args:
        sites: config of each hospital's node.
        environments: variables with the credentials of each hospital's store; its executor gets
            them, and no other process does.
        work: folder of the run; a temporary one if None, which is removed unless something failed.
        authority: of the SuperLink's certificate; one of its own if None.

    Attributes:
        folder: of the run.
        address: ``host:port`` of the SuperLink.
        ca: certificate of its authority, PEM.
    """

    def __init__(
        self,
        sites: Mapping[str, SiteConfig],
        environments: Mapping[str, Mapping[str, str]] | None = None,
        work: Path | None = None,
        authority: Authority | None = None,
    ) -> None:
        self._nodes = dict(sites)
        self._environments = environments or {}
        self._work = work
        self._authority = authority or Authority()
        self._changing = RLock()
        self._sites: dict[str, Site] = {}
        self._superlink: Child | None = None
        self._server: Child | None = None
        self.address = ""

    def __enter__(self) -> Self:
        """Start everything.

        Raises:
            ProcessDiedError, NotStartedError, SiteNotOnlineError: something did not start.
        """
        self.folder = self._work or Path(tempfile.mkdtemp(prefix="fl-assets-"))
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._keys = Path(tempfile.mkdtemp(prefix="keys-", dir=self.folder))
        self._terminal = _duplicate_of_stderr()
        try:
            self._start()
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End everything; without asking, for nothing holds what must be saved."""
        for child in self.processes:
            child.kill()
        if self.address:
            self._control.close()
        if self._terminal is not None:
            os.close(self._terminal)
        shutil.rmtree(self._keys)
        if self._work is None and kind is None:
            shutil.rmtree(self.folder)

    @property
    def processes(self) -> list[Child]:
        """Those that should run."""
        servers = [child for child in (self._superlink, self._server) if child is not None]
        return [*servers, *(child for site in self._sites.values() for child in site.processes)]

    def run(self, job: FederationJob) -> FederationResult:
        """Train; see :meth:`fl_assets.federation.runtimes.base.Runtime.run`.

        A site that dies during the run is a dropout until somebody starts it again.

        Raises:
            OtherSitesError: the job has a site, or a store of one, that the deployment does not.
            RunFailedError: the server app raised.
            ProcessDiedError: the SuperLink or the server died.
        """
        stores = {name: node.store for name, node in self._nodes.items()}
        if not job.sites.items() <= stores.items():
            others = sorted(dict(job.sites.items() - stores.items()))
            raise OtherSitesError(
                f"the deployment does not have the stores of {', '.join(others)}: give it the "
                "job's sites"
            )
        server, self._server = self._server or self._start_server(), None
        order = RunOrder(job.run_config(), tuple(job.sites))
        try:
            with self._link():
                run_id = self._control.start(bundle(), order.to_wire())
            self._follow(run_id, server)
        finally:
            server.kill()
        return load_result(open_store(job.output), job.run)

    def kill_site(self, name: str) -> None:
        """End a site's processes as a power cut would, and tell the SuperLink that it is gone."""
        with self._changing:
            site = self._sites[name]
            site.kill()
            # Else the link would believe in it for another minute, and not let it in again.
            with suppress(httpx.HTTPError):
                say_goodbye(self.address, self.ca, site.key, site.node_id)

    def start_site(self, name: str) -> None:
        """Start a site again, with the key that it had, and wait until it is ready."""
        with self._changing:
            site = self._sites[name]
            if site.processes:
                self.kill_site(name)
            site.start_executor()
            site.start_node(self.address)
        self._await_sites([site])

    def _start(self) -> None:
        files = self._authority.issue(self._keys)
        self.ca = files.ca.read_bytes()
        self._secret = new_secret(self._keys / "superlink.secret")
        self._superlink = Child(
            "superlink",
            "fl_assets.federation.deployment.superlink",
            SuperLinkArguments(
                announced=announced_file(self.folder, "superlink"),
                ca=files.ca,
                certificate=files.certificate,
                key=files.key,
                secret=self._secret,
            ),
            self.folder,
            {},
        )
        for name, node in self._nodes.items():
            environment = self._environments.get(name, {})
            site = Site(node, environment, self.folder, self._keys, files.ca)
            self._sites[name] = site
            site.start_executor()
        self._server = self._start_server()
        self.address = self._superlink.await_announced()
        self._control = Control(self.address, self.ca)
        for name, site in self._sites.items():
            with self._link():
                site.node_id = self._control.register(name, site.public_key)
            site.start_node(self.address)
        self._await_sites(list(self._sites.values()))

    def _start_server(self) -> Child:
        # The coordinator's own process, with what this one has.
        ours = {k: v for k, v in os.environ.items() if not k.startswith(("FLWR_", "OMP_"))}
        return Child(
            "server",
            "fl_assets.federation.deployment.executor",
            ExecutorArguments(
                half="server",
                announced=announced_file(self.folder, "server"),
                runtime=announced_file(self.folder, "superlink"),
                secret=self._secret,
                ca=self._keys / "ca.pem",
                terminal=self._terminal,
            ),
            self.folder,
            ours,
            keep=() if self._terminal is None else (self._terminal,),
        )

    def _await_sites(self, sites: list[Site]) -> None:
        end = time.monotonic() + START_SECONDS
        for site in sites:
            site.await_executor()
        while True:
            with self._link():
                away = {site.name for site in sites} - self._control.online()
            if not away:
                return
            for child in (process for site in sites for process in site.processes):
                child.check()
            if time.monotonic() > end:
                raise SiteNotOnlineError(
                    f"{', '.join(sorted(away))} did not get to the SuperLink within "
                    f"{START_SECONDS:g} s; see the logs in {self.folder}"
                )
            time.sleep(_POLL_SECONDS)

    def _follow(self, run_id: int, server: Child) -> None:
        """Wait for the end of a run, whose server is a process.

        Raises:
            RunFailedError: the server app raised.
            ProcessDiedError: the SuperLink or the server died.
        """
        try:
            while server.code is None:
                self._check_link()
                self._let_go_of_dead_sites()
                time.sleep(_POLL_SECONDS)
        finally:
            if server.code != 0:
                # A run that has failed by itself is over already.
                with suppress(httpx.HTTPError):
                    self._control.stop(run_id)
        if server.code != 0:
            with self._link():
                failure = self._control.failure(run_id)
            if failure:
                raise RunFailedError(f"{failure}\n(logs: {self.folder})")
            raise ProcessDiedError(server)

    def _let_go_of_dead_sites(self) -> None:
        with self._changing:
            for name, site in self._sites.items():
                dead = [child for child in site.processes if child.code is not None]
                if dead:
                    log.warning("%s is out of the run: %s", name, ProcessDiedError(dead[0]))
                    self.kill_site(name)

    def _check_link(self, patience: float = 0.0) -> None:
        if self._superlink is not None:
            self._superlink.check(patience)

    @contextmanager
    def _link(self) -> Iterator[None]:
        try:
            yield
        except httpx.HTTPError as error:
            # The end of a process is seen later than that of its connections.
            self._check_link(patience=1.0)
            raise LinkError(
                f"the SuperLink at {self.address} does not answer as it should: {error}; see its "
                f"log in {self.folder}"
            ) from error


def _duplicate_of_stderr() -> int | None:
    """Return a descriptor by which a child can write where this process's errors go."""
    try:
        return os.dup(2)
    except OSError:
        # A daemon has none.
        return None

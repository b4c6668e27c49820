"""A whole deployment on this machine: real SuperLink, real SuperNodes, on loopback, with TLS."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import RLock
from types import TracebackType
from typing import Self

import httpx

from fl_assets.federation.deployment.children import START_SECONDS, Child, ProcessDiedError
from fl_assets.federation.deployment.pki import Authority, new_node_key, new_secret
from fl_assets.federation.deployment.server import RunFailedError, Server, duplicate_of_stderr
from fl_assets.federation.deployment.site import Site
from fl_assets.federation.flower_internals.control import say_goodbye
from fl_assets.federation.job import FederationError, FederationJob, FederationResult, load_result
from fl_assets.federation.site_config import SiteConfig
from fl_assets.storage import open_store

log = logging.getLogger(__name__)


class OtherSitesError(FederationError):
    """A job is about sites that the deployment does not have."""


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
        self._server: Server | None = None
        self.address = ""

    def __enter__(self) -> Self:
        """Start everything.

        Raises:
            ProcessDiedError, NotStartedError, SiteNotOnlineError: something did not start.
        """
        self.folder = self._work or Path(tempfile.mkdtemp(prefix="fl-assets-"))
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._keys = Path(tempfile.mkdtemp(prefix="keys-", dir=self.folder))
        self._terminal = duplicate_of_stderr()
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
        for site in self._sites.values():
            site.kill()
        if self._server is not None:
            self._server.kill()
        if self._terminal is not None:
            os.close(self._terminal)
        shutil.rmtree(self._keys)
        if self._work is None and kind is None:
            shutil.rmtree(self.folder)

    @property
    def processes(self) -> list[Child]:
        """Those that should run."""
        servers = [] if self._server is None else self._server.processes
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
        try:
            self._running.run(job, self._let_go_of_dead_sites)
        except RunFailedError as error:
            raise RunFailedError(f"{error}\n(logs: {self.folder})") from error
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

    @property
    def _running(self) -> Server:
        assert self._server is not None
        return self._server

    def _start(self) -> None:
        files = self._authority.issue(self._keys)
        self.ca = files.ca.read_bytes()
        secret = new_secret(self._keys / "superlink.secret")
        self._server = server = Server(self.folder, files, secret, self._terminal)
        public = {}
        for name, node in self._nodes.items():
            key = self._keys / f"{name}.key"
            public[name] = new_node_key(key)
            secret = new_secret(self._keys / f"{name}.secret")
            environment = self._environments.get(name, {})
            self._sites[name] = Site(node, environment, self.folder, key, secret, files.ca)
            self._sites[name].start_executor()
        server.start_executor()
        server.connect()
        self.address = server.address
        for name, site in self._sites.items():
            site.node_id = server.register(name, public[name])
            site.start_node(self.address)
        self._await_sites(list(self._sites.values()))

    def _await_sites(self, sites: list[Site]) -> None:
        for site in sites:
            site.await_executor()

        def check() -> None:
            for site in sites:
                site.check()

        names = [site.name for site in sites]
        where = f"see the logs in {self.folder}"
        self._running.await_sites(names, START_SECONDS, where, check)

    def _let_go_of_dead_sites(self) -> None:
        with self._changing:
            for name, site in self._sites.items():
                dead = [child for child in site.processes if child.code is not None]
                if dead:
                    log.warning("%s is out of the run: %s", name, ProcessDiedError(dead[0]))
                    self.kill_site(name)

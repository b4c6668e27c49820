"""A hospital's part of a training in its pod: ``python -m ...deployment.pod_site JSON``.

It is a SuperNode and a warm executor. Where its rows are, as whom they are opened and what its
patients may be exposed to is read here, from the hospital's own configuration; the coordinator
says no more than where the server is.
"""

from __future__ import annotations

import logging
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import httpx
from pydantic import Field

from fl_assets.cluster.termination import telling_why
from fl_assets.config import StrictModel
from fl_assets.federation.deployment.app import bundle
from fl_assets.federation.deployment.pki import new_secret
from fl_assets.federation.deployment.server import own_environment
from fl_assets.federation.deployment.site import Site
from fl_assets.federation.flower_internals.control import Control, say_goodbye
from fl_assets.federation.job import FederationError
from fl_assets.federation.site_config import SiteConfig
from fl_assets.settings import Settings

log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0  # between two looks at the link


class ServerAwayError(FederationError):
    """The training's server was not there when it should have been."""


class SitePodArguments(StrictModel):
    """What a hospital's pod needs beside its Secret and its own configuration.

    Attributes:
        hospital: whose pod it is.
        superlink: ``host:port`` of the training's server.
        secrets: folder with ``ca.pem`` and ``node.key``.
        start_seconds: to wait for the server to begin.
        away_seconds: after which a server that has begun and does not answer is given up, so that
            nothing is left of a training whose coordinator is gone.
    """

    hospital: str
    superlink: str
    secrets: Path
    start_seconds: Annotated[float, Field(gt=0)]
    away_seconds: Annotated[float, Field(gt=0)] = 60.0


def main() -> None:
    """Take part in one run; exit with 0 when it is over."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    # So that the children are ended, and the server is told.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    # Whoever comes after it would wait for the same server, and nobody else would know.
    with telling_why(ServerAwayError):
        take_part(SitePodArguments.model_validate_json(sys.argv[1]))


def own_config(settings: Settings, hospital: str) -> SiteConfig:
    """Return the config of a hospital's node, from the hospital's own settings.

    Raises:
        UnknownHospitalError: they know no such hospital.
        ConfigFileError: consortium.yaml is missing or does not fit.
    """
    return SiteConfig(
        hospital=hospital,
        store=settings.site_uri(hospital),
        access=settings.site_access(hospital),
        budget=settings.whole_consortium.budget(hospital),
    )


def take_part(given: SitePodArguments) -> None:
    """Be a hospital's site until the run is over.

    Raises:
        ServerAwayError: the server did not begin, or went away.
        ProcessDiedError, NotStartedError: a process of the site died.
    """
    config = own_config(Settings.from_environment(), given.hospital)
    folder = Path(tempfile.mkdtemp(prefix="fl-assets-"))
    key, ca = given.secrets / "node.key", given.secrets / "ca.pem"
    secret = new_secret(folder / "supernode.secret")
    site = Site(config, own_environment(), folder, key, secret, ca)
    link = _Link(given)
    try:
        # It takes seconds, in which the server may begin.
        site.start_executor()
        link.join()
        site.start_node(given.superlink)
        log.info("%s takes part at %s", given.hospital, given.superlink)
        while not link.is_over():
            site.check()
            time.sleep(_LOOK_SECONDS)
        log.info("the run is over")
    finally:
        site.kill()
        link.leave()


class _Link:
    """The training's server, as a site sees it."""

    def __init__(self, given: SitePodArguments) -> None:
        self._given = given
        self._ca = (given.secrets / "ca.pem").read_bytes()
        self._key = given.secrets / "node.key"
        self._control = Control(given.superlink, self._ca)
        self._node_id: int | None = None
        self._seen = time.monotonic()

    def join(self) -> None:
        """Wait until the server knows this node, and takes it for one that is away.

        Of a pod that was replaced the server would believe for another minute that it is online,
        and not let this one in.

        Raises:
            ServerAwayError: the server did not begin.
        """
        end = time.monotonic() + self._given.start_seconds
        while True:
            with suppress(httpx.HTTPError):
                node = self._control.node(self._key)
                if node is not None:
                    self._node_id = node.node_id
                    if node.online:
                        log.info("an earlier pod of %s is still online", self._given.hospital)
                        self.leave()
                    self._seen = time.monotonic()
                    return
            if time.monotonic() > end:
                raise ServerAwayError(
                    f"the server at {self._given.superlink} did not begin within "
                    f"{self._given.start_seconds:g} s: see its pod, and whether the network "
                    "policies let this one through"
                )
            time.sleep(_LOOK_SECONDS)

    def is_over(self) -> bool:
        """Tell whether the run is over.

        Raises:
            ServerAwayError: the server has not answered for too long.
        """
        try:
            over = self._control.finished(bundle())
        except httpx.HTTPError as error:
            if time.monotonic() - self._seen > self._given.away_seconds:
                raise ServerAwayError(
                    f"the server at {self._given.superlink} has not answered for "
                    f"{self._given.away_seconds:g} s ({type(error).__name__}): its pod is gone; "
                    "start the training again, which goes on from its last round"
                ) from error
            return False
        self._seen = time.monotonic()
        return over

    def leave(self) -> None:
        """Tell the server that this node is gone, if it listens."""
        if self._node_id is not None:
            with suppress(httpx.HTTPError):
                say_goodbye(self._given.superlink, self._ca, self._key, self._node_id)


if __name__ == "__main__":
    main()

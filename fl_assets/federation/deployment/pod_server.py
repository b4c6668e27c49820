"""A training's server in its pod: ``python -m fl_assets.federation.deployment.pod_server JSON``.

It is a SuperLink and the executor of the server app, for one run. The files of the run's Secret
tell it who may take part and what to train.
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

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from pydantic import Field, TypeAdapter

from fl_assets.cluster.termination import telling_why
from fl_assets.config import StrictModel
from fl_assets.federation.deployment.pki import ServerFiles, new_secret
from fl_assets.federation.deployment.server import Server, duplicate_of_stderr
from fl_assets.federation.job import FederationError, FederationJob

log = logging.getLogger(__name__)

RUN_BEGINS = "all sites are online: the run begins"
"""Line of the server's log; a hospital that fails after it is a dropout."""

_FAREWELL_SECONDS = 5.0  # for sites to see that the run is over
_POLL_SECONDS = 0.1


class ServerPodArguments(StrictModel):
    """What the server's pod needs beside its Secret.

    Attributes:
        secrets: folder with ``ca.pem``, ``server.pem``, ``server.key``, ``job.json``, the job, and
            ``nodes.json``, the public key (OpenSSH) of each hospital's node.
        address, port: where sites reach the SuperLink; the pod's own IP address.
        start_seconds: for the sites to come.
    """

    secrets: Path
    address: str
    port: int
    start_seconds: Annotated[float, Field(gt=0)]


def main() -> None:
    """Serve one run; exit with 0 if it left a result."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    # So that the children are ended, and the sites see an end at once.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with telling_why():
        serve(ServerPodArguments.model_validate_json(sys.argv[1]))


def serve(given: ServerPodArguments) -> None:
    """Be the server of one run.

    Raises:
        SiteNotOnlineError: a site did not come.
        RunFailedError: the server app raised.
        ProcessDiedError, NotStartedError, LinkError: a process of the server died.
    """
    secrets = given.secrets
    job = FederationJob.model_validate_json((secrets / "job.json").read_bytes())
    nodes = TypeAdapter(dict[str, str]).validate_json((secrets / "nodes.json").read_bytes())
    files = ServerFiles(secrets / "ca.pem", secrets / "server.pem", secrets / "server.key")
    folder = Path(tempfile.mkdtemp(prefix="fl-assets-"))
    secret = new_secret(folder / "superlink.secret")
    public = (given.address, given.port)
    server = Server(folder, files, secret, duplicate_of_stderr(), public)
    try:
        server.start_executor()
        server.connect()
        for name, text in nodes.items():
            key = load_ssh_public_key(text.encode())
            assert isinstance(key, ec.EllipticCurvePublicKey)
            server.register(name, key)
        log.info("waiting for %s", ", ".join(sorted(nodes)))
        where = "see why their pods do not run, or allow more time (start_seconds)"
        server.await_sites(nodes, given.start_seconds, where, lambda: None)
        log.info(RUN_BEGINS)
        server.run(job, lambda: None)
        log.info("the run is over")
        _part(server)
    finally:
        server.kill()


def _part(server: Server) -> None:
    """Keep the SuperLink until the sites have left it, so that they know why it goes."""
    end = time.monotonic() + _FAREWELL_SECONDS
    # The result is stored, and a SuperLink that dies now spoils nothing.
    with suppress(FederationError):
        while server.online() and time.monotonic() < end:
            time.sleep(_POLL_SECONDS)


if __name__ == "__main__":
    main()

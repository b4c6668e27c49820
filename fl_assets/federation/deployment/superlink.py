"""The process of a SuperLink: ``python -m fl_assets.federation.deployment.superlink JSON``."""

from __future__ import annotations

from pathlib import Path

from fl_assets.config import StrictModel
from fl_assets.federation.deployment import entry
from fl_assets.federation.deployment.pki import ServerFiles


class SuperLinkArguments(StrictModel):
    """What a SuperLink needs.

    Attributes:
        announced: file to which it writes its address on loopback.
        ca, certificate, key: see :class:`fl_assets.federation.deployment.pki.ServerFiles`.
        secret: file with the SuperExec secret.
        port: on loopback; any free one if 0.
        public: IP address and port to listen at as well, for sites of other machines.
        database: SQLite file with its state; in memory if None.
    """

    announced: Path
    ca: Path
    certificate: Path
    key: Path
    secret: Path
    port: int = 0
    public: tuple[str, int] | None = None
    database: Path | None = None


def main() -> None:
    """Serve until killed."""
    given = entry.begin(SuperLinkArguments)
    listening = [entry.listen(given.port)]
    if given.public is not None:
        host, port = given.public
        listening.append(entry.listen(port, host))
    # Whoever connects from now on is served when the imports are done.
    entry.announce(given.announced, entry.address_of(listening[0]))
    from fl_assets.federation.flower_internals.servers import serve_superlink

    files = ServerFiles(given.ca, given.certificate, given.key)
    serve_superlink(files, given.secret, listening, given.database)


if __name__ == "__main__":
    main()

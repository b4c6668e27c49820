"""The process of a SuperNode: ``python -m fl_assets.federation.deployment.supernode JSON``."""

from __future__ import annotations

from pathlib import Path

from fl_assets.config import StrictModel
from fl_assets.federation.deployment import entry


class SuperNodeArguments(StrictModel):
    """What a SuperNode needs.

    Attributes:
        announced: file to which it writes the address of its Runtime API.
        superlink: ``host:port`` of the SuperLink.
        ca: file with the certificate of the SuperLink's authority.
        key: file with the private key that the node was registered with.
        secret: file with the SuperExec secret.
        config: of the node, as the client app sees it.
        port: of the Runtime API, on loopback; any free one if 0.
    """

    announced: Path
    superlink: str
    ca: Path
    key: Path
    secret: Path
    config: dict[str, str]
    port: int = 0


def main() -> None:
    """Take messages from the SuperLink to the executor and back, until killed."""
    given = entry.begin(SuperNodeArguments)
    listening = entry.listen(given.port)
    entry.announce(given.announced, entry.address_of(listening))
    from fl_assets.federation.flower_internals.servers import run_supernode

    run_supernode(
        given.superlink,
        given.ca.read_bytes(),
        given.key,
        given.secret.read_bytes(),
        given.config,
        listening,
    )


if __name__ == "__main__":
    main()

"""How Streamlit is started."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

from fl_assets.errors import FlAssetsError

OPTIONS = {
    # Streamlit's own statistics of use.
    "browser.gatherUsageStats": "false",
    "server.headless": "true",
    "server.fileWatcherType": "none",
    # A stack trace could hold what a document holds.
    "client.showErrorDetails": "none",
    "client.toolbarMode": "minimal",
    # To welcome people, it would ask a server on the internet for this machine's address.
    "logger.hideWelcomeMessage": "true",
}


class StreamlitMissingError(FlAssetsError):
    """The dashboard's extra is not installed."""

    def __init__(self) -> None:
        super().__init__(
            "`fla dashboard` needs Streamlit, which is not installed: "
            "`pip install 'fl_assets[dashboard]'`"
        )


def command(host: str, port: int) -> list[str]:
    """Return the command that serves the pages.

    Args:
        host: address to listen on.
        port: to listen on.

    Raises:
        StreamlitMissingError: it is an extra of this package.
    """
    if find_spec("streamlit") is None:
        raise StreamlitMissingError
    options = {**OPTIONS, "server.address": host, "server.port": str(port)}
    app = Path(__file__).with_name("app.py")
    return [
        *(sys.executable, "-m", "streamlit", "run", str(app)),
        *(f"--{name}={value}" for name, value in options.items()),
    ]

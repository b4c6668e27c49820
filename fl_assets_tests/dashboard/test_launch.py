import socket
import subprocess
import time
import urllib.request
from contextlib import suppress

import pytest

from fl_assets.dashboard import launch
from fl_assets.dashboard.launch import StreamlitMissingError, command


def test_nothing_is_told_to_anybody_outside() -> None:
    options = command("127.0.0.1", 8501)
    assert "--browser.gatherUsageStats=false" in options
    assert "--logger.hideWelcomeMessage=true" in options
    assert "--server.address=127.0.0.1" in options


def test_without_streamlit_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "find_spec", lambda name: None)
    with pytest.raises(StreamlitMissingError, match=r"fl_assets\[dashboard\]"):
        command("127.0.0.1", 8501)


@pytest.mark.services
def test_the_command_serves_pages() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with subprocess.Popen(
        command("127.0.0.1", port), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as server:
        try:
            assert _health(port) == b"ok"
        finally:
            server.terminate()
            assert "error" not in server.communicate()[0].lower()


def _health(port: int) -> bytes:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with suppress(OSError):
            address = f"http://127.0.0.1:{port}/_stcore/health"
            with urllib.request.urlopen(address, timeout=5) as answer:
                return bytes(answer.read())
        time.sleep(0.2)
    return b"no answer"

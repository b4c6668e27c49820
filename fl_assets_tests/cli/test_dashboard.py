import os

import pytest

from fl_assets.dashboard import launch
from fl_assets.settings import Settings
from fl_assets_tests.cli.fla import Fla


@pytest.fixture
def fla(
    world: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Fla:
    return Fla(monkeypatch, capsys).over(world)


def test_it_becomes_streamlit_on_loopback(fla: Fla, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    monkeypatch.setattr(os, "execv", lambda file, arguments: started.append(arguments))
    result = fla("dashboard", "--port", "8600")
    assert result.code == 0
    assert started == [launch.command("127.0.0.1", 8600)]
    assert "http://127.0.0.1:8600" in result.err


def test_without_its_extra_it_says_which(fla: Fla, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "find_spec", lambda name: None)
    result = fla("dashboard")
    assert result.code == 1
    assert "fl_assets[dashboard]" in result.err

"""The command line over a world of the test's own."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from fl_assets.cohorts.synthetic import generate
from fl_assets.settings import Settings
from fl_assets_tests.cli.fla import Fla


@pytest.fixture
def fla(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Fla:
    # Nobody is there to answer a question.
    monkeypatch.setattr("sys.stdin", io.StringIO())
    return Fla(monkeypatch, capsys)


@pytest.fixture
def patients(tmp_path: Path, world: Settings) -> Path:
    file = tmp_path / "patients.csv"
    generate(world.cohort, 40, seed=9).to_csv(file, index=False)
    return file

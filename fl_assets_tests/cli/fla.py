"""Calls the command line as a person does, in this process."""

from __future__ import annotations

import pytest

from fl_assets import cli
from fl_assets.settings import Settings


class Result:
    """What a call left behind."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


class Fla:
    """Calls the command line over a world."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def over(self, settings: Settings) -> Fla:
        for name, value in {
            "FLA_HOME": settings.home,
            "FLA_CONSORTIUM": settings.consortium_file,
            "FLA_RECIPES": settings.recipes,
            "FLA_SYNTHETIC_ROWS": settings.synthetic_rows,
            "MLFLOW_TRACKING_URI": settings.tracking_uri,
            "DAGSTER_HOME": settings.home / "dagster",
        }.items():
            self._monkeypatch.setenv(name, str(value))
        self._monkeypatch.delenv("DATA", raising=False)
        return self

    def __call__(self, *arguments: str) -> Result:
        self._monkeypatch.setattr("sys.argv", ["fla", *arguments])
        with pytest.raises(SystemExit) as left:
            cli.main()
        captured = self._capsys.readouterr()
        code = left.value.code
        return Result(
            code if isinstance(code, int) else int(bool(code)), captured.out, captured.err
        )

from __future__ import annotations

import builtins
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fl_assets.settings import Settings
from fl_assets.site.engines import SparkMissingError, UnknownEngineError, intake_engine
from fl_assets.site.gathering import gather
from fl_assets.storage import Access
from fl_assets_tests.world import settings_of


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "consortium.yaml").write_text(
        "name: c\ncohort: stroke\nsplit: {salt: a salt of it}\nregion: eu-central-1\n"
        "role: 'arn:aws:iam::1:role/{hospital}'\nhospitals: [{name: a}]\n"
    )
    return settings_of(tmp_path)


def test_this_process_unless_something_else_is_said(settings: Settings) -> None:
    assert intake_engine(settings, "a") is gather


def test_an_unknown_engine(settings: Settings) -> None:
    with pytest.raises(UnknownEngineError, match="FLA_INTAKE is 'flink': use local or spark"):
        intake_engine(replace(settings, intake_engine="flink"), "a")


def test_spark_opens_the_store_as_the_hospital(settings: Settings) -> None:
    pytest.importorskip("pyspark", reason="pyspark is absent: install the extra `spark`")
    engine: Any = intake_engine(replace(settings, intake_engine="spark"), "a")
    assert engine.access == settings.site_access("a")
    assert engine.access.role == "arn:aws:iam::1:role/a"
    assert isinstance(engine.access, Access)


def test_spark_that_is_not_installed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    stock = builtins.__import__

    def without_spark(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == "pyspark":
            raise ModuleNotFoundError(f"No module named {name!r}", name="pyspark")
        return stock(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_spark)
    monkeypatch.delitem(sys.modules, "fl_assets.site.spark", raising=False)
    with pytest.raises(SparkMissingError, match=r"pip install 'fl_assets\[spark\]'"):
        intake_engine(replace(settings, intake_engine="spark"), "a")

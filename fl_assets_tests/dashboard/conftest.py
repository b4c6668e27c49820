"""The pages as Streamlit would send them, read with the coordinator's rights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from streamlit.testing.v1 import AppTest

from fl_assets.dashboard import launch
from fl_assets.reporting.html import Table, cell_text
from fl_assets.settings import Settings
from fl_assets_tests.storage.fenced import fenced
from fl_assets_tests.world import CONSORTIUM, settings_of

APP = Path(launch.__file__).with_name("app.py")
PAGES = ("Overview", "Models", "Training", "Privacy", "Egress")
Open = Callable[[Settings, str], AppTest]


@pytest.fixture
def empty_world(tmp_path: Path) -> Settings:
    """A consortium in which nothing has happened yet."""
    (tmp_path / "consortium.yaml").write_text(yaml.safe_dump(CONSORTIUM))
    return settings_of(tmp_path)


@pytest.fixture
def open_page(monkeypatch: pytest.MonkeyPatch) -> Open:
    """Opens a page over a world, as an identity that may read no row."""

    def opened(settings: Settings, page: str) -> AppTest:
        monkeypatch.setattr(Settings, "from_environment", lambda: fenced(settings))
        app = AppTest.from_file(str(APP), default_timeout=60)
        app.session_state["page"] = page
        app.run()
        assert not app.exception, app.exception[0].value
        assert not app.error, app.error[0].value
        return app

    return opened


def said(app: AppTest) -> str:
    """Everything that a page sends to the browser, with the cells of its tables."""
    sent = (element.proto for block in (app.main, app.sidebar) for element in block)
    return "".join(proto.SerializeToString().decode("latin-1") for proto in sent if proto)


def rows_of(table: Table) -> list[list[str]]:
    """The rows of a report's table, as they are shown."""
    return [[cell_text(cell) for cell in row] for row in table.rows]


def cells(app: AppTest) -> list[list[list[str]]]:
    """The rows of every table."""
    return [frame.value.to_numpy().tolist() for frame in app.dataframe]

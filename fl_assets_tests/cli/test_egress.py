"""``fla egress``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fl_assets.settings import Settings
from fl_assets.site.egress import EgressLog
from fl_assets_tests.cli.fla import Fla

HOSPITAL = "hospital-a"


@pytest.fixture
def logged(world: Settings) -> Settings:
    """A world whose hospital-a has sent three updates of two runs."""
    log = EgressLog(world.site_store(HOSPITAL))
    for run, size in (("run-1", 1000), ("run-1", 2000), ("run-2", 4000)):
        log.release("update", run, b"x" * size, "round 1")
    return world


def test_totals_and_filters(fla: Fla, logged: Settings) -> None:
    fla.over(logged)

    def found(*options: str) -> dict[str, int]:
        result = fla("egress", HOSPITAL, "--format", "json", *options)
        assert result.code == 0, result.err
        return json.loads(result.out)

    everything = found()
    updates = found("--kind", "update")
    assert (updates["messages"], updates["bytes"]) == (3, 7000)
    assert everything["messages"] > 3
    assert found("--run", "run-1")["bytes"] == 3000
    assert found("--kind", "update", "--since", "2999-01-01")["messages"] == 0
    assert found("--kind", "update", "--since", "2020-01-01")["messages"] == 3
    (first, *_) = found("--run", "run-2", "--messages")["entries"]  # type: ignore[misc]
    assert (first["kind"], first["size"]) == ("update", 4000)  # type: ignore[index]


def test_a_kind_that_there_is_not(fla: Fla, logged: Settings) -> None:
    refused = fla.over(logged)("egress", HOSPITAL, "--kind", "updates")
    assert refused.code == 2
    assert "secure_sum" in refused.err


def test_for_people_and_as_a_page(fla: Fla, logged: Settings, tmp_path: Path) -> None:
    page = tmp_path / "egress.html"
    result = fla.over(logged)("egress", HOSPITAL, "--kind", "update", "--html", str(page))
    assert result.code == 0, result.err
    assert "3 messages, 7,000 bytes" in result.out
    assert "no entry was edited" in result.out
    assert "run-2" in page.read_text()
    assert "data:image/png;base64" in page.read_text()


def test_an_entry_that_is_missing_is_told(fla: Fla, logged: Settings) -> None:
    store = logged.site_store(HOSPITAL)
    keys = [info.key for info in store.list("egress/")]
    store.delete(keys[-2])
    result = fla.over(logged)("egress", HOSPITAL)
    assert result.code == 1
    assert f"1 entries are missing before {keys[-1]}" in result.err.replace("\n", " ")

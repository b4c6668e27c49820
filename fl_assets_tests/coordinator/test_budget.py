"""The view of the ledgers that the coordinator has, and how it is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from fl_assets.consortium import UnknownHospitalError
from fl_assets.coordinator.budget import budget_plot, budget_table, line_table, open_ledger
from fl_assets.federation.witnesses import save_witness
from fl_assets.privacy.ledger import Ledger
from fl_assets.privacy.ledger_chain import ANCHOR, LedgerDamagedError, entry_key
from fl_assets.privacy.ledger_view import hospital_budget, ledger_lines
from fl_assets.settings import Settings
from fl_assets.storage import FolderStore
from fl_assets_tests.privacy.ledgers import ONE, SMALL, of_every_kind


def test_tables_and_plot(tmp_path: Path) -> None:
    ledger = of_every_kind(FolderStore(tmp_path / "hospital"))
    found = hospital_budget(ledger, "hospital-a", SMALL)
    lines = ledger_lines(ledger.entries(), 1e-5)
    (row,) = budget_table([found]).rows
    assert row[0] == "hospital-a"
    assert row[1] == "1.75"
    assert row[-1] == "r3"
    assert [entry[0] for entry in line_table("hospital-a", lines).rows] == list(range(1, 10))
    assert budget_plot(found, lines).png[:4] == b"\x89PNG"


def test_an_empty_ledger(world: Settings) -> None:
    ledger = open_ledger(world, "hospital-b")
    found = hospital_budget(ledger, "hospital-b", world.consortium.budget("hospital-b"))
    assert (found.spent, found.entries, found.head) == (0.0, 0, None)
    assert found.left == pytest.approx(3.0, rel=1e-3)
    assert ledger_lines(ledger.entries(), 1e-5) == []


def test_what_the_coordinator_saw_must_be_there(world: Settings) -> None:
    store = world.site_store("hospital-a")
    Ledger(store, "hospital-a").reserve("r1", [ONE], SMALL, 1.0, "training")
    head = Ledger(store, "hospital-a").head()
    save_witness(world.coordinator_store(), "hospital-a", head)
    assert open_ledger(world, "hospital-a").head() == head

    for key in (entry_key(1), ANCHOR):
        (Path(store.uri.removeprefix("file://")) / key).unlink()
    assert Ledger(store, "hospital-a").entries() == ()
    with pytest.raises(LedgerDamagedError, match="the coordinator saw 1 entries, 0 are there"):
        open_ledger(world, "hospital-a").head()


def test_no_such_hospital(world: Settings) -> None:
    with pytest.raises(UnknownHospitalError):
        open_ledger(world, "hospital-z")

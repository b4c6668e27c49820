"""``fla budget``, ``verify-ledger`` and ``settle``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fl_assets.consortium import PrivacyBudget
from fl_assets.privacy.configs import PrivacyConfig
from fl_assets.privacy.ledger import Ledger
from fl_assets.privacy.ledger_chain import entry_key
from fl_assets.settings import Settings
from fl_assets.site.answers import Answer
from fl_assets.site.spending import RunSpending
from fl_assets_tests.cli.fla import Fla

NOISED = Answer({"w": np.ones(2, dtype=np.float32)}, examples=100)


def spend(settings: Settings, hospital: str, run: str, rounds: int) -> RunSpending:
    """Reserve ten rounds and answer some."""
    spending = RunSpending.open(
        settings.site_store(hospital),
        hospital,
        run=run,
        privacy=PrivacyConfig(epsilon=1.0),
        rounds=10,
        budget=settings.consortium.budget(hospital),
    )
    for round_ in range(1, rounds + 1):
        spending.answer(round_, b"weights", lambda: NOISED)
    return spending


@pytest.fixture
def spent(world: Settings) -> Settings:
    """A run of 5 of 10 steps at hospital-a, an open one at hospital-b, nothing at hospital-c."""
    spend(world, "hospital-a", "r1", 5).close()
    spend(world, "hospital-b", "r1", 2)
    return world


def damage(settings: Settings, hospital: str) -> None:
    folder = Path(settings.site_store(hospital).uri.removeprefix("file://"))
    (folder / entry_key(1)).unlink()


def test_budget_of_every_hospital(fla: Fla, spent: Settings) -> None:
    result = fla.over(spent)("budget")
    assert result.code == 0, result.err
    for cell in ("hospital-a", "hospital-b", "hospital-c", "3.00", "r1"):
        assert cell in result.out
    assert "protected runs alone" not in result.out

    answer = json.loads(fla("budget", "--format", "json").out)
    a, b, c = answer["hospitals"]
    assert (a["open_runs"], b["open_runs"], c["open_runs"]) == ([], ["r1"], [])
    assert a["spent"] < b["spent"] == pytest.approx(1.0, rel=1e-6)
    assert c["spent"] == 0
    assert answer["entries"] == []


def test_budget_of_one_with_every_entry(fla: Fla, spent: Settings) -> None:
    result = fla.over(spent)("budget", "hospital-a")
    assert result.code == 0, result.err
    assert "hospital-b" not in result.out
    assert "5 steps were released" in result.out

    entries = json.loads(fla("budget", "hospital-a", "--format", "json").out)["entries"]
    assert [entry["kind"] for entry in entries] == ["reserve", "settle"]
    assert fla("budget", "hospital-c").code == 0


def test_budget_says_for_which_runs_it_holds(fla: Fla, world: Settings) -> None:
    store = world.site_store("hospital-a")
    Ledger(store, "hospital-a").unprotected("r0", PrivacyBudget(unprotected_runs=True))
    assert "hold for the protected runs alone" in fla.over(world)("budget").out


def test_a_damaged_ledger_hides_no_other(fla: Fla, spent: Settings) -> None:
    damage(spent, "hospital-b")
    result = fla.over(spent)("budget")
    assert result.code == 1
    assert "hospital-a" in result.out
    assert "hospital-b: the privacy ledger is damaged" in result.err
    answer = json.loads(fla("budget", "--format", "json").out)
    assert list(answer["damages"]) == ["hospital-b"]
    assert fla("budget", "hospital-b").code == 1


def test_verify_ledger(fla: Fla, spent: Settings) -> None:
    whole = fla.over(spent)("verify-ledger")
    assert whole.code == 0, whole.err
    assert "hospital-a: the ledger is whole, 2 entries" in whole.out
    assert "hospital-c: the ledger is whole, 0 entries" in whole.out

    damage(spent, "hospital-a")
    broken = fla("verify-ledger", "--format", "json")
    assert broken.code == 1
    answer = json.loads(broken.out)
    assert answer["entries"] == {"hospital-b": 1, "hospital-c": 0}
    assert "ledger/000001.json is missing" in answer["damages"]["hospital-a"]
    assert fla("verify-ledger", "hospital-b").code == 0
    assert fla("verify-ledger", "hospital-a").code == 1


def test_settle_gives_back_what_never_left(fla: Fla, spent: Settings) -> None:
    done = fla.over(spent)("settle", "hospital-b", "r1")
    assert done.code == 0, done.err
    assert "hospital-b: run r1: settled 2 of 10 reserved steps" in done.out
    answer = json.loads(fla("budget", "hospital-b", "--format", "json").out)
    assert answer["hospitals"][0]["open_runs"] == []
    assert answer["hospitals"][0]["spent"] < 0.5

    twice = fla("settle", "hospital-b", "r1")
    assert twice.code == 1
    assert "run r1 is closed" in twice.err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["budget", "nowhere"], "no hospital is named 'nowhere'"),
        (["verify-ledger", "nowhere"], "no hospital is named 'nowhere'"),
        (["settle", "nowhere", "r1"], "no hospital is named 'nowhere'"),
        (["settle", "hospital-c", "r9"], "run r9 has no reservation"),
    ],
)
def test_wrong_names(fla: Fla, world: Settings, arguments: list[str], reason: str) -> None:
    result = fla.over(world)(*arguments)
    assert result.code == 1
    assert reason in result.err

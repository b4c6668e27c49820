"""``fla withdraw``, ``readmit``, ``delete-data`` and ``erase``."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pandas as pd
import pytest

from fl_assets.privacy.ledger import Ledger
from fl_assets.settings import Settings
from fl_assets.site import intake, partitions, rows
from fl_assets.site.egress import EgressLog
from fl_assets.site.receipts import load_receipts
from fl_assets_tests.cli.fla import Fla
from fl_assets_tests.cli.test_privacy import spend

HOSPITAL = "hospital-c"


def on_disk(settings: Settings, hospital: str) -> list[Path]:
    root = Path(settings.site_store(hospital).uri.removeprefix("file://"))
    return [path.relative_to(root) for path in root.rglob("*") if path.is_file()]


def test_a_hospital_leaves_deletes_its_data_and_comes_back(
    fla: Fla, finished_world: Settings, patients: Path
) -> None:
    fla.over(finished_world)
    asked = fla("withdraw", HOSPITAL)
    assert asked.code == 1
    assert "Model versions with data of hospital-c" in asked.out
    assert json.loads(fla("status", "--format", "json").out)["withdrawn"] == []

    left = fla("withdraw", HOSPITAL, "--yes")
    assert left.code == 0, left.err
    assert "was champion: there is none any more" in left.out
    assert "to train without it: fla demo" in left.out
    assert "was champion" not in fla("withdraw", HOSPITAL, "--yes").out
    status = fla("status")
    assert "withdrawn: hospital-c" in status.out
    assert "no champion any more" in status.out
    predicted = fla("predict", str(patients))
    assert predicted.code == 1
    assert "was champion until hospital-c" in predicted.err.replace("\n", " ")
    assert fla("budget", HOSPITAL).code == 0

    fla("delete-data", HOSPITAL, "--yes")
    back = fla("readmit", HOSPITAL)
    assert back.code == 0, back.err
    assert "is a member again" in back.out


def test_all_data_go_but_the_evidence(
    fla: Fla, world: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    spend(world, HOSPITAL, "r1", 5)
    store = world.site_store(HOSPITAL)
    # What is not current any more, or never was whole, must go as well.
    first = store.list("incoming/")[0].key
    store.put(first, store.get(first) + b"\n")
    store.put("incoming/withdrawn.csv", b"rows of patients")
    store.delete("incoming/withdrawn.csv")
    root = Path(store.uri.removeprefix("file://"))
    (root / ".tmp" / "left").write_bytes(b"half of a file of patients")
    log, entries = len(EgressLog(store).entries()), len(Ledger(store, HOSPITAL).entries())

    fla.over(world)
    member = fla("delete-data", HOSPITAL, "--yes")
    assert member.code == 1
    assert "`fla withdraw hospital-c` comes first" in member.err.replace("\n", " ")
    monkeypatch.setattr("sys.stdin", io.StringIO("hospital-b\n"))
    assert "nothing was deleted" in fla("delete-data", HOSPITAL, "--force").err
    assert store.exists(first)
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{HOSPITAL}\n"))
    done = fla("delete-data", HOSPITAL, "--force", "--format", "json")

    assert done.code == 0, done.err
    receipt = json.loads(done.out)
    assert receipt == load_receipts(store)[0].model_dump(mode="json")
    deleted = {c["name"]: c for c in receipt["deleted"]}
    assert {"incoming", "records", "partitions", "profile", "answers"} <= set(deleted)
    assert deleted["incoming"]["objects"] == 2
    assert deleted["incoming"]["versions"] == 3
    assert receipt["unfinished"] == 1
    assert "Nothing is given back" in receipt["statement"]
    kept = {path.parts[0] for path in on_disk(world, HOSPITAL)}
    assert kept <= {
        "ledger",
        "ledger-anchor.json",
        "egress",
        "receipts",
        "keys",
        ".lock",
        ".locks",
        ".versions",
        "answers",
    }
    # Of the run that was under way the mark that it is closed.
    marks = [path for path in on_disk(world, HOSPITAL) if path.parts[0] == "answers"]
    assert [path.as_posix() for path in marks] == ["answers/r1/closed"]
    assert {p.parts[1] for p in on_disk(world, HOSPITAL) if p.parts[0] == ".versions"} <= {
        "ledger-anchor.json"
    }
    assert len(EgressLog(store).entries()) == log
    *before, last = Ledger(store, HOSPITAL).entries()
    assert (len(before), last.act.kind) == (entries, "settle")
    assert fla("verify-ledger", HOSPITAL).code == 0


def held(settings: Settings, hospital: str) -> pd.Series:
    store = settings.site_store(hospital)
    return rows.read_rows(store, intake.load_manifest(store).key)["id"]


def test_a_patient_is_erased_and_the_models_say_so(
    fla: Fla, finished_world: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = str(held(finished_world, HOSPITAL).iloc[7])
    store = finished_world.site_store(HOSPITAL)
    before = partitions.load_manifest(store).version
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{patient}\n"))

    done = fla.over(finished_world)("erase", HOSPITAL, "-", "--yes", "--format", "json")

    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert patient not in held(finished_world, HOSPITAL).tolist()
    assert found["receipt"]["partitions"] == [before]
    assert found["receipt"]["rows"] == 1
    assert {m["recipe"] for m in found["models"]} == {"small-lr", "small-mlp"}
    assert "by subtraction" in done.err.replace("\n", " ")
    # The profile followed, and the log tells what the coordinator was told.
    assert json.loads(store.get("profile/manifest.json"))["partitions"] != before
    assert [e.kind for e in EgressLog(store).entries()[-2:]] == ["profile", "erasure"]

    again = fla("erase", HOSPITAL, patient, "--yes")
    assert again.code == 0, again.err
    assert "was erased before" in again.out
    assert "version 1" in again.out


@pytest.mark.parametrize(
    ("given", "message"),
    [("no-such-id", "holds no row of that id"), ("  ", "is empty")],
    ids=["unknown", "empty"],
)
def test_an_id_that_is_nobodys(fla: Fla, world: Settings, given: str, message: str) -> None:
    result = fla.over(world)("erase", HOSPITAL, given, "--yes")
    assert result.code != 0
    assert message in result.err.replace("\n", " ")
    assert "no-such-id" not in result.err + result.out
    assert load_receipts(world.site_store(HOSPITAL)) == []

"""``fla upload`` and ``quarantine``."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pandas as pd
import pytest

from fl_assets.cohorts.synthetic import generate
from fl_assets.coordinator.withdrawal import Withdrawal
from fl_assets.settings import Settings
from fl_assets.site.intake import BlockedUploadsError, collect_records
from fl_assets_tests.cli.fla import Fla

HOSPITAL = "hospital-a"


@pytest.fixture
def text(world: Settings) -> pd.DataFrame:
    return generate(world.cohort, 40, seed=9).reset_index(drop=True)


def spoiled(text: pd.DataFrame, rows: int) -> pd.DataFrame:
    """The same with an age of 777 in the first rows."""
    ages = text["age"].astype(str).mask(text.index < rows, "777")
    return text.assign(age=ages)


def write(folder: Path, text: pd.DataFrame, name: str = "patients.csv") -> str:
    text.to_csv(folder / name, index=False)
    return str(folder / name)


def collect(settings: Settings) -> None:
    rules = settings.consortium.intake
    collect_records(settings.site_store(HOSPITAL), settings.cohort, rules)


def test_a_file_is_checked_sent_and_found_there_again(
    fla: Fla, world: Settings, text: pd.DataFrame, tmp_path: Path
) -> None:
    file = write(tmp_path, text)
    checked = fla.over(world)("upload", HOSPITAL, file, "--check")
    assert checked.code == 0, checked.err
    assert not world.site_store(HOSPITAL).exists("incoming/patients.csv")

    sent = fla("upload", HOSPITAL, file)
    assert sent.code == 0, sent.err
    assert "accepted     40" in sent.out
    assert "sent: incoming/patients.csv" in sent.out
    assert f"python -m fl_assets.site records {HOSPITAL}" in sent.out
    assert world.site_store(HOSPITAL).get("incoming/patients.csv") == Path(file).read_bytes()

    again = fla("upload", HOSPITAL, file, "--format", "json")
    (found,) = json.loads(again.out)
    assert (found["status"], found["accepted"]) == ("already there", 40)
    other = fla("upload", HOSPITAL, file, "--as", "2026-01/new.csv")
    assert "already there as incoming/patients.csv" in other.out
    assert len(world.site_store(HOSPITAL).versions("incoming/patients.csv")) == 1


def test_a_correction_takes_the_place_of_the_first_and_clears_its_quarantine(
    fla: Fla, world: Settings, text: pd.DataFrame, tmp_path: Path
) -> None:
    file = write(tmp_path, spoiled(text, 3))
    fla.over(world)
    unasked = fla("upload", HOSPITAL, file)
    assert unasked.code == 1
    assert "send it, with 3 rows that go to quarantine?" in unasked.err
    assert fla("upload", HOSPITAL, file, "--yes").code == 0
    collect(world)
    held = fla("quarantine", HOSPITAL)
    assert held.code == 0, held.err
    assert "3  age: outside 0 to 120  (line 2, 3, 4)" in held.out

    write(tmp_path, text)
    refused = fla("upload", HOSPITAL, file)
    assert refused.code == 1
    assert "is there with other content" in refused.err
    assert "replaced: incoming/patients.csv" in fla("upload", HOSPITAL, file, "--yes").out
    assert "something was uploaded or removed since" in fla("quarantine", HOSPITAL).out
    collect(world)
    cleared = fla("quarantine", HOSPITAL)
    assert "nothing is held back" in cleared.out
    assert not world.site_store(HOSPITAL).list("quarantine/patients.csv")


def test_what_would_block_is_not_sent_unless_it_is_forced(
    fla: Fla, world: Settings, text: pd.DataFrame, tmp_path: Path
) -> None:
    file = write(tmp_path, spoiled(text, 10))
    assert fla.over(world)("upload", HOSPITAL, file, "--check").code == 1
    result = fla("upload", HOSPITAL, file, "--yes")
    assert result.code == 1
    assert "10 of 40 rows do not fit, more than 20%" in result.err.replace("\n", " ")
    assert not world.site_store(HOSPITAL).exists("incoming/patients.csv")

    assert fla("upload", HOSPITAL, file, "--yes", "--force").code == 0
    with pytest.raises(BlockedUploadsError):
        collect(world)
    blocked = fla("quarantine", HOSPITAL)
    assert blocked.code == 1
    assert "blocks the records incoming/patients.csv" in blocked.out
    assert f"`fla upload {HOSPITAL} FILE`" in blocked.out
    assert json.loads(fla("quarantine", HOSPITAL, "--format", "json").out)["blocked"]

    assert fla("upload", HOSPITAL, write(tmp_path, text), "--yes").code == 0
    collect(world)
    assert fla("quarantine", HOSPITAL).code == 0


def test_a_file_that_is_refused_is_never_sent(fla: Fla, world: Settings, tmp_path: Path) -> None:
    file = tmp_path / "broken.csv"
    file.write_text("id,age\n1,2\n")
    result = fla.over(world)("upload", HOSPITAL, str(file), "--yes", "--force")
    assert result.code == 1
    assert "error: broken.csv: columns missing" in result.err
    assert not world.site_store(HOSPITAL).exists("incoming/broken.csv")


@pytest.mark.parametrize("name", ["x.tmp", "a/.hidden", "../x.csv"])
def test_a_name_that_is_no_uploads_is_refused(
    fla: Fla, world: Settings, text: pd.DataFrame, tmp_path: Path, name: str
) -> None:
    result = fla.over(world)("upload", HOSPITAL, write(tmp_path, text), "--as", name)
    assert result.code == 1
    assert name in result.err.replace("\n", "")


def test_who_has_withdrawn_or_is_unknown_uploads_nothing(
    fla: Fla, world: Settings, text: pd.DataFrame, tmp_path: Path
) -> None:
    file = write(tmp_path, text)
    assert "no hospital is named" in fla.over(world)("upload", "hospital-z", file).err
    left = Withdrawal.model_validate({"hospital": HOSPITAL, "time": "2026-01-01T00:00:00Z"})
    world.coordinator_store().put(f"withdrawn/{HOSPITAL}.json", left.model_dump_json().encode())
    assert f"`fla readmit {HOSPITAL}`" in fla("upload", HOSPITAL, file).err.replace("\n", " ")


def test_the_rows_go_to_a_file_of_the_owner_alone(
    fla: Fla, world: Settings, text: pd.DataFrame, tmp_path: Path
) -> None:
    file = Path(write(tmp_path, spoiled(text, 2)))
    file.write_text(file.read_text() + "one,two\n")
    assert fla.over(world)("upload", HOSPITAL, str(file), "--yes").code == 0
    collect(world)
    rows = tmp_path / "rows.csv"

    result = fla("quarantine", HOSPITAL, "--rows", str(rows))

    assert result.code == 0, result.err
    assert "777" not in result.out + result.err
    assert rows.stat().st_mode & 0o777 == 0o600
    with rows.open(newline="") as stream:
        found = list(csv.DictReader(stream))
    assert [row["line"] for row in found] == ["2", "3", "42"]
    assert [row["age"] for row in found] == ["777", "777", ""]
    assert found[0]["reasons"] == "age: outside 0 to 120"
    assert (found[2]["text"], found[2]["upload"]) == ("one,two", "patients.csv")
    twice = fla("quarantine", HOSPITAL, "--rows", str(rows))
    assert twice.code == 1
    assert "file exists" in twice.err.replace("\n", " ")

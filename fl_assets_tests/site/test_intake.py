from __future__ import annotations

import itertools
import os
import tempfile
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_assets.cohorts.contract import REASON, Counts
from fl_assets.cohorts.reader import LINE
from fl_assets.cohorts.spec import CohortSpec
from fl_assets.cohorts.synthetic import generate
from fl_assets.site import intake, rows
from fl_assets.site.intake import NoRecordsError, collect_records, load_manifest
from fl_assets.storage import FolderStore, ObjectNotFoundError
from fl_assets_tests.damage import EDITS, REFUSED, Edit, as_file, damaged, good_lines, is_row


@pytest.fixture(scope="module")
def text(stroke: CohortSpec) -> pd.DataFrame:
    return generate(stroke, 60, 5)


@pytest.fixture(scope="module")
def lines(stroke: CohortSpec) -> list[str]:
    return good_lines(stroke)


@pytest.fixture(scope="module")
def other_lines(stroke: CohortSpec) -> list[str]:
    """Those of other patients; an id or two may be the same."""
    return good_lines(stroke, 9, 2)


def arrive(store: FolderStore, name: str, data: bytes | pd.DataFrame, minute: int) -> None:
    """Put an upload, as arrived at a minute of the day."""
    if isinstance(data, pd.DataFrame):
        data = data.to_csv(index=False).encode()
    store.put(f"incoming/{name}", data)
    path = Path(store.uri.removeprefix("file://")) / "incoming" / name
    os.utime(path, (1_700_000_000 + 60 * minute,) * 2)


def records(store: FolderStore) -> pd.DataFrame:
    return rows.read_rows(store, load_manifest(store).key).set_index("id")


def everything(store: FolderStore, prefix: str = "") -> dict[str, bytes]:
    return {info.key: store.get(info.key) for info in store.list(prefix)}


def test_one_upload(store: FolderStore, stroke: CohortSpec, text: pd.DataFrame) -> None:
    arrive(store, "a.csv", text, 1)
    manifest = collect_records(store, stroke)
    assert manifest == load_manifest(store)
    assert manifest.counts == Counts(60, 60, 0, 0)
    assert manifest.contract == stroke.version
    assert [u.key for u in manifest.uploads] == ["incoming/a.csv"]
    assert sorted(records(store).index) == sorted(text["id"])
    assert [info.key for info in store.list()] == [
        "incoming/a.csv",
        manifest.key,
        "records/manifest.json",
    ]


def test_the_latest_upload_wins_whatever_its_name(
    store: FolderStore, stroke: CohortSpec, text: pd.DataFrame
) -> None:
    one = text.iloc[[0]]
    arrive(store, "z.csv", text.assign(age="30"), 1)
    arrive(store, "a.csv", one.assign(age="31"), 2)
    assert collect_records(store, stroke).counts == Counts(61, 60, 0, 1)
    assert records(store).loc[one["id"], "age"].tolist() == [31.0]
    arrive(store, "z.csv", one.assign(age="32"), 3)
    assert collect_records(store, stroke).counts == Counts(2, 1, 0, 1)
    assert records(store)["age"].tolist() == [32.0]


def test_a_bad_row_of_a_later_upload_wins_nothing(
    store: FolderStore, stroke: CohortSpec, text: pd.DataFrame
) -> None:
    arrive(store, "a.csv", text.assign(age="30"), 1)
    arrive(store, "b.csv", text.assign(age="300"), 2)
    assert collect_records(store, stroke).counts == Counts(120, 60, 60, 0)
    assert set(records(store)["age"]) == {30.0}


def test_the_order_of_uploads_leaves_no_trace(
    tmp_path: Path, stroke: CohortSpec, text: pd.DataFrame
) -> None:
    pieces = [text.iloc[:10], text.iloc[10:35], text.iloc[35:]]
    found = set()
    for number, order in enumerate(itertools.permutations(range(3))):
        store = FolderStore(tmp_path / str(number))
        for minute, piece in enumerate(order):
            arrive(store, f"{piece}.csv", pieces[piece], minute)
        manifest = collect_records(store, stroke)
        found.add((manifest.version, manifest.sha256, manifest.key))
    assert len(found) == 1
    whole = FolderStore(tmp_path / "whole")
    arrive(whole, "all.csv", text.sample(frac=1, random_state=1), 1)
    assert collect_records(whole, stroke).version == manifest.version


def test_running_it_again_changes_nothing(
    store: FolderStore, stroke: CohortSpec, text: pd.DataFrame, lines: list[str]
) -> None:
    arrive(store, "a.csv", pd.concat([text, text.iloc[:2], text.assign(age="x")]), 1)
    arrive(store, "b.csv", REFUSED["cut in a row"][0](lines), 2)
    first = collect_records(store, stroke)
    before = everything(store)
    assert collect_records(store, stroke) == first
    assert everything(store) == before


def test_quarantine_and_duplicates_beside_the_records(
    store: FolderStore, stroke: CohortSpec, text: pd.DataFrame
) -> None:
    arrive(store, "2024/a.csv", pd.concat([text, text.iloc[:2], text[5:6].assign(age="x")]), 1)
    manifest = collect_records(store, stroke)
    assert manifest.counts == Counts(63, 60, 1, 2)
    assert manifest.reasons == {"age: not a number": 1}
    held = rows.read_rows(store, "quarantine/2024/a.csv/rows.parquet")
    assert held[[LINE, "id", "age", REASON]].to_numpy().tolist() == [
        [64, text.loc[5, "id"], "x", "age: not a number"]
    ]
    double = rows.read_rows(store, "quarantine/2024/a.csv/duplicates.parquet")
    assert double["id"].tolist() == text["id"].tolist()[:2]


def test_quarantine_is_that_of_the_current_uploads(
    store: FolderStore, stroke: CohortSpec, text: pd.DataFrame
) -> None:
    arrive(store, "mended.csv", text.iloc[:30].assign(age="x"), 1)
    arrive(store, "recalled.csv", text.iloc[:30].assign(age="x"), 2)
    arrive(store, "c.csv", text.iloc[30:], 3)
    collect_records(store, stroke)
    assert len(everything(store, "quarantine/")) == 2
    arrive(store, "mended.csv", text.iloc[:30], 4)
    store.delete("incoming/recalled.csv")
    assert collect_records(store, stroke).counts == Counts(60, 60, 0, 0)
    assert everything(store, "quarantine/") == {}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refused_file_stops_no_other(
    case: str, store: FolderStore, stroke: CohortSpec, text: pd.DataFrame, lines: list[str]
) -> None:
    damage, _, reason = REFUSED[case]
    arrive(store, "a.csv", text.iloc[:30], 1)
    arrive(store, "b.csv", damage(lines), 2)
    arrive(store, "c.csv", text.iloc[30:], 3)
    manifest = collect_records(store, stroke)
    assert manifest.counts == Counts(60, 60, 0, 0)
    refused = [upload.refused for upload in manifest.uploads]
    assert refused[0] is None
    assert refused[2] is None
    assert refused[1] is not None
    assert reason in refused[1]
    assert "incoming/b.csv" in refused[1]


def test_no_upload(store: FolderStore, stroke: CohortSpec) -> None:
    with pytest.raises(NoRecordsError, match=r"no usable row in incoming/ \(no upload at all\)"):
        collect_records(store, stroke)
    with pytest.raises(ObjectNotFoundError):
        load_manifest(store)


def test_no_upload_holds_a_row_that_fits(
    store: FolderStore, stroke: CohortSpec, text: pd.DataFrame
) -> None:
    arrive(store, "a.csv", b"", 1)
    arrive(store, "b.csv", text.assign(age="canary", gender="canary"), 2)
    with pytest.raises(NoRecordsError) as caught:
        collect_records(store, stroke)
    message = str(caught.value)
    assert "incoming/a.csv holds no data row" in message
    assert (
        "incoming/b.csv: all 60 rows are in quarantine: age: not a number in 60 rows, " in message
    )
    assert "canary" not in message


def test_records_stay_when_nothing_new_fits(
    store: FolderStore, stroke: CohortSpec, text: pd.DataFrame
) -> None:
    arrive(store, "a.csv", text, 1)
    first = collect_records(store, stroke)
    arrive(store, "a.csv", b"", 2)
    with pytest.raises(NoRecordsError):
        collect_records(store, stroke)
    assert load_manifest(store) == first
    assert len(records(store)) == 60


def test_no_value_is_in_the_manifest(
    store: FolderStore, stroke: CohortSpec, lines: list[str]
) -> None:
    marks = [f"canary{place}x" for place in range(12)]
    marks[-1] = marks[0]
    for number, (damage, _, _) in enumerate(REFUSED.values()):
        arrive(store, f"{number}.csv", damage([lines[0], *[",".join(marks)] * 6]), number)
    for place in range(12):
        fields = lines[1].split(",")
        fields[place] = marks[place]
        arrive(store, f"field-{place}.csv", as_file([lines[0], ",".join(fields), *lines[2:]]), 99)
    manifest = collect_records(store, stroke)
    assert manifest.counts.quarantined >= 11
    assert "canary" not in store.get("records/manifest.json").decode()


@settings(max_examples=15, deadline=None)
@given(uploads=st.lists(st.tuples(EDITS, st.booleans()), min_size=1, max_size=3))
def test_every_row_of_several_uploads_is_somewhere(
    stroke: CohortSpec,
    lines: list[str],
    other_lines: list[str],
    uploads: list[tuple[list[Edit], bool]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = FolderStore(Path(folder) / "hospital")
        sent = {}
        for minute, (edits, other) in enumerate(uploads):
            sent[f"incoming/{minute}.csv"] = damaged(other_lines if other else lines, edits)
            arrive(store, f"{minute}.csv", as_file(sent[f"incoming/{minute}.csv"]), minute)
        try:
            manifest = collect_records(store, stroke)
        except NoRecordsError:
            return
        counts = manifest.counts
        assert counts.reconciled
        assert counts.rows_in == sum(
            sum(is_row(line) for line in sent[upload.key][1:])
            for upload in manifest.uploads
            if upload.refused is None
        )
        kept = rows.read_rows(store, manifest.key, manifest.sha256)
        assert kept["id"].is_unique
        assert len(kept) == counts.accepted
        assert kept["id"].tolist() == sorted(kept["id"])
        aside = [rows.read_rows(store, key) for key in everything(store, "quarantine/")]
        assert sum(map(len, aside)) == counts.quarantined + counts.duplicates - manifest.superseded
        assert intake.collect_records(store, stroke) == manifest


@pytest.mark.real_data
def test_the_public_file(store: FolderStore, stroke: CohortSpec, stroke_csv: Path) -> None:
    data = stroke_csv.read_bytes()
    lines = data.splitlines(keepends=True)
    arrive(store, "first.csv", b"".join(lines[:3001]), 1)
    arrive(store, "second.csv", b"".join([lines[0], *lines[2001:]]), 2)
    manifest = collect_records(store, stroke)
    assert manifest.counts == Counts(6110, 5110, 0, 1000)
    store.delete("incoming/first.csv")
    arrive(store, "second.csv", data, 3)
    assert collect_records(store, stroke).version == manifest.version

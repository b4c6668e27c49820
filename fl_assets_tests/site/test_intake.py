from __future__ import annotations

import itertools
import os
import random
import tempfile
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import Event

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_assets.cohorts import formats, screen
from fl_assets.cohorts.contract import REASON, Counts
from fl_assets.cohorts.reader import LINE
from fl_assets.cohorts.spec import CohortSpec
from fl_assets.cohorts.synthetic import generate
from fl_assets.consortium import IntakeRules
from fl_assets.site import erasure, gathering, rows
from fl_assets.site.intake import (
    BlockedUploadsError,
    Intake,
    NoRecordsError,
    collect_records,
    load_intake,
    load_manifest,
    new_uploads,
)
from fl_assets.site.runs import SortedRuns
from fl_assets.site.uploads import ERASED
from fl_assets.storage import FolderStore, ObjectNotFoundError, StorageError
from fl_assets.storage.locks import Held, LockLostError
from fl_assets_tests.damage import (
    EDITS,
    REFUSED,
    Edit,
    as_file,
    damaged,
    good_lines,
    is_row,
)
from fl_assets_tests.fuzz import fuzzed, hardly_damaged
from fl_assets_tests.site.conftest import store_with_key
from fl_assets_tests.thorough import THOROUGH

ANYTHING = IntakeRules(max_quarantined=1)


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
    assert [info.key for info in store.list() if not info.key.startswith("egress/")] == [
        "incoming/a.csv",
        "keys/site.key",
        manifest.key,
        "records/intake.json",
        "records/manifest.json",
    ]
    assert load_intake(store) == Intake(uploads=manifest.uploads, records=manifest.version)


def test_the_latest_upload_wins_whatever_its_name(
    store: FolderStore, stroke: CohortSpec, text: pd.DataFrame
) -> None:
    one = text.iloc[[0]]
    arrive(store, "z.csv", text.assign(age="30"), 1)
    arrive(store, "a.csv", one.assign(age="31"), 2)
    assert collect_records(store, stroke).counts == Counts(61, 60, 0, 1)
    assert records(store).loc[one["id"], "age"].tolist() == [31.0]
    arrive(store, "z.csv", one.assign(age="32"), 3)
    assert collect_records(store, stroke, IntakeRules(max_lost=1)).counts == Counts(2, 1, 0, 1)
    assert records(store)["age"].tolist() == [32.0]


def test_a_bad_row_of_a_later_upload_wins_nothing(
    store: FolderStore, stroke: CohortSpec, text: pd.DataFrame
) -> None:
    arrive(store, "a.csv", text.assign(age="30"), 1)
    arrive(store, "b.csv", text.assign(age="300"), 2)
    assert collect_records(store, stroke, ANYTHING).counts == Counts(120, 60, 60, 0)
    assert set(records(store)["age"]) == {30.0}


def test_the_order_of_uploads_leaves_no_trace(
    tmp_path: Path, stroke: CohortSpec, text: pd.DataFrame
) -> None:
    pieces = [text.iloc[:10], text.iloc[10:35], text.iloc[35:]]
    found = set()
    for number, order in enumerate(itertools.permutations(range(3))):
        store = store_with_key(tmp_path / str(number))
        for minute, piece in enumerate(order):
            arrive(store, f"{piece}.csv", pieces[piece], minute)
        manifest = collect_records(store, stroke)
        found.add((manifest.version, manifest.sha256, manifest.key))
    assert len(found) == 1
    whole = store_with_key(tmp_path / "whole")
    arrive(whole, "all.csv", text.sample(frac=1, random_state=1), 1)
    found.add((collect_records(whole, stroke).version, manifest.sha256, manifest.key))
    assert len(found) == 1
    assert rows.read_rows(whole, manifest.key, manifest.sha256)["id"].tolist() == sorted(text["id"])


def test_hospitals_name_the_same_rows_differently(
    tmp_path: Path, stroke: CohortSpec, text: pd.DataFrame
) -> None:
    """So nobody who sees a name or a hash can test a guessed row against it."""
    found = []
    for hospital in ("a", "b"):
        store = FolderStore(tmp_path / hospital)
        arrive(store, "a.csv", text, 1)
        found.append(collect_records(store, stroke))
    assert found[0].version != found[1].version
    assert found[0].sha256 != found[1].sha256


def test_running_it_again_changes_nothing(
    store: FolderStore, stroke: CohortSpec, text: pd.DataFrame, lines: list[str]
) -> None:
    arrive(store, "a.csv", pd.concat([text, text.iloc[:2], text.assign(age="x")]), 1)
    arrive(store, "b.csv", REFUSED["cut in a row"][0](lines), 2)
    first = collect_records(store, stroke, ANYTHING)
    before = everything(store)
    assert collect_records(store, stroke, ANYTHING) == first
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
    assert double[LINE].tolist() == [2, 3]
    assert double["id"].tolist() == text["id"].tolist()[:2]
    assert double["gender"].tolist() == text["gender"].tolist()[:2]


def test_quarantine_is_that_of_the_current_uploads(
    store: FolderStore, stroke: CohortSpec, text: pd.DataFrame
) -> None:
    arrive(store, "mended.csv", text.iloc[:30].assign(age="x"), 1)
    arrive(store, "recalled.csv", text.iloc[:30].assign(age="x"), 2)
    arrive(store, "c.csv", text.iloc[30:], 3)
    collect_records(store, stroke, ANYTHING)
    assert len(everything(store, "quarantine/")) == 2
    arrive(store, "mended.csv", text.iloc[:30], 4)
    store.delete("incoming/recalled.csv")
    assert collect_records(store, stroke).counts == Counts(60, 60, 0, 0)
    assert everything(store, "quarantine/") == {}


@pytest.mark.parametrize("case", [case for case in REFUSED if case != "nothing"])
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
    arrive(store, "a.csv", b"\n", 1)
    arrive(store, "b.csv", text.assign(age="canary", gender="canary"), 2)
    with pytest.raises(NoRecordsError) as caught:
        collect_records(store, stroke, ANYTHING)
    message = str(caught.value)
    assert "incoming/a.csv holds no data row" in message
    assert (
        "incoming/b.csv: all 60 rows are in quarantine: age: not a number in 60 rows, " in message
    )
    assert "canary" not in message
    assert [u.key for u in load_intake(store).uploads] == ["incoming/a.csv", "incoming/b.csv"]
    assert not new_uploads(store)


def test_too_many_bad_rows_block_the_records(
    store: FolderStore, stroke: CohortSpec, text: pd.DataFrame
) -> None:
    arrive(store, "a.csv", text, 1)
    first = collect_records(store, stroke)
    for bad, blocks in ((12, False), (13, True)):
        arrive(store, "b.csv", pd.concat([text.iloc[:bad].assign(age="x"), text.iloc[bad:]]), bad)
        if not blocks:
            second = collect_records(store, stroke)
            assert second.counts.quarantined == 12
            continue
        with pytest.raises(BlockedUploadsError, match="13 of 60 rows are in quarantine") as caught:
            collect_records(store, stroke)
    assert "`fla quarantine HOSPITAL`" in str(caught.value)
    assert list(caught.value.blocked) == ["incoming/b.csv"]
    # What is current stays; what blocks can be looked at.
    assert load_manifest(store) == second
    assert first.rows == second.rows == len(records(store)) == 60
    assert len(rows.read_rows(store, "quarantine/b.csv/rows.parquet")) == 13
    found = load_intake(store)
    assert found.blocked == caught.value.blocked
    assert found.records == second.version
    assert [u.quarantined for u in found.uploads] == [0, 13]
    assert not new_uploads(store)
    # Taken back, it blocks no longer.
    store.delete("incoming/b.csv")
    assert new_uploads(store)
    assert collect_records(store, stroke).version == first.version
    assert everything(store, "quarantine/") == {}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refused_file_in_place_of_an_accepted_one_blocks_the_records(
    case: str, store: FolderStore, stroke: CohortSpec, text: pd.DataFrame, lines: list[str]
) -> None:
    arrive(store, "a.csv", text.iloc[:30], 1)
    arrive(store, "b.csv", text.iloc[30:], 2)
    first = collect_records(store, stroke)
    arrive(store, "b.csv", REFUSED[case][0](lines), 3)
    assert new_uploads(store)
    for _ in range(2):
        with pytest.raises(BlockedUploadsError, match=r"incoming/b\.csv: its accepted rows"):
            collect_records(store, stroke)
        assert load_manifest(store) == first
        assert not new_uploads(store)
    arrive(store, "b.csv", text.iloc[30:], 4)
    assert collect_records(store, stroke).version == first.version


def test_parts_and_drafts_are_no_uploads(
    store: FolderStore, stroke: CohortSpec, text: pd.DataFrame
) -> None:
    arrive(store, "a.csv", text, 1)
    drafts = ["b.csv.part", "b.csv.TMP", "~$b.xlsx", "b.csv~", "c/b.crdownload", "empty.csv"]
    for name in drafts:
        arrive(store, name, b"" if name == "empty.csv" else b"half a row", 2)
    manifest = collect_records(store, stroke)
    assert [upload.key for upload in manifest.uploads] == ["incoming/a.csv"]
    assert sorted(load_intake(store).ignored) == sorted(f"incoming/{name}" for name in drafts)
    assert not new_uploads(store)
    arrive(store, "b.csv.part2", text, 3)
    assert new_uploads(store)


def test_whether_there_are_new_uploads(
    store: FolderStore, stroke: CohortSpec, text: pd.DataFrame
) -> None:
    assert not new_uploads(store)
    with pytest.raises(NoRecordsError):
        collect_records(store, stroke)
    assert not new_uploads(store)
    arrive(store, "a.csv", text, 1)
    assert new_uploads(store)
    collect_records(store, stroke)
    assert not new_uploads(store)
    # The same bytes once more are another version.
    arrive(store, "a.csv", text, 2)
    assert new_uploads(store)
    collect_records(store, stroke)
    store.delete("incoming/a.csv")
    assert new_uploads(store)


def test_erased_patients_stay_out(
    store: FolderStore, stroke: CohortSpec, text: pd.DataFrame
) -> None:
    gone, other = text.loc[3, "id"], text.loc[4, "id"]
    misshapen = f"{gone},Male,40\n".encode()
    data = pd.concat([text, text.iloc[[3, 4]], text.iloc[[3]].assign(age="x")]).to_csv(index=False)
    arrive(store, "a.csv", data.encode() + misshapen, 1)
    mark = erasure.fingerprint(rows.site_key(store), gone)
    erasure.add_tombstone(store, mark, [], datetime(2026, 1, 1, tzinfo=UTC))
    # Half of the rows may be theirs: it is no fault of the file.
    manifest = collect_records(store, stroke, IntakeRules(max_quarantined=0))
    assert manifest.counts == Counts(64, 59, 4, 1)
    assert manifest.reasons == {ERASED: 4}
    assert gone not in records(store).index
    held = rows.read_rows(store, "quarantine/a.csv/rows.parquet")
    assert held[LINE].tolist() == [5, 62, 64, 65]
    assert set(held[REASON]) == {ERASED}
    assert held.drop(columns=[LINE, REASON]).isna().all(axis=None)
    double = rows.read_rows(store, "quarantine/a.csv/duplicates.parquet")
    assert double["id"].tolist() == [other]


def test_memory_holds_no_more_than_a_run(
    tmp_path: Path, stroke: CohortSpec, text: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With batches, runs and row groups of a few rows every file is the same to the byte."""
    uploads = [
        pd.concat([text, text.iloc[:20].assign(age="41"), text.iloc[5:9].assign(age="x")]),
        pd.concat([text.iloc[[2, 1, 2, 2, 0, 0, 1]]] * 4),
        b"id,gender\n1,2\n",
        pd.concat([text.iloc[30:], text.iloc[40:].assign(age="42"), text.iloc[40:]]),
    ]
    found = []
    for name in ("whole", "pieces"):
        store = store_with_key(tmp_path / name)
        for minute, data in enumerate(uploads):
            arrive(store, f"{minute}.csv", data, minute)
        if name == "pieces":
            monkeypatch.setattr(gathering, "SortedRuns", partial(SortedRuns, run=7))
            monkeypatch.setattr(formats, "CHUNK", 300)
            monkeypatch.setattr(screen, "_BATCH", 5)
        manifest = collect_records(store, stroke, ANYTHING)
        # Versions of uploads are their times.
        seen = [upload.model_copy(update={"version": ""}) for upload in manifest.uploads]
        files = everything(store, "quarantine/") | {manifest.key: store.get(manifest.key)}
        found.append((manifest.version, manifest.superseded, seen, files))
    assert found[0] == found[1]
    assert found[0][1] == 33
    assert [upload.duplicates for upload in found[0][2]] == [20, 25, 0, 40]


def test_no_row_is_left_in_a_temporary_folder(
    store: FolderStore,
    stroke: CohortSpec,
    text: pd.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setattr(gathering, "SortedRuns", partial(SortedRuns, run=7))
    arrive(store, "a.csv", pd.concat([text, text.iloc[:5].assign(age="x")]), 1)
    collect_records(store, stroke)
    assert list(temporary.iterdir()) == []

    def fail(*_: object) -> None:
        assert list(temporary.iterdir()) != []
        raise StorageError("no more room")

    monkeypatch.setattr(FolderStore, "put_file", fail)
    with pytest.raises(StorageError):
        collect_records(store, stroke)
    assert list(temporary.iterdir()) == []


def test_two_intakes_at_once_lose_no_row(
    store: FolderStore, stroke: CohortSpec, text: pd.DataFrame
) -> None:
    """The first has listed the uploads before a further one came; the second sees all."""
    arrive(store, "a.csv", text.iloc[:25], 1)
    has_read, may_go_on = Event(), Event()

    @contextmanager
    def slow(*arguments):
        with gathering.gather(*arguments) as gathered:
            has_read.set()
            assert may_go_on.wait(60)
            yield gathered

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(collect_records, store, stroke, ANYTHING, slow)
        assert has_read.wait(60)
        arrive(store, "c.csv", text.iloc[25:40], 2)
        other = FolderStore(Path(store.uri.removeprefix("file://")))
        second = pool.submit(collect_records, other, stroke)
        # It would be done by now, and the first would put fewer rows in its place.
        assert not wait([second], timeout=0.5).done
        may_go_on.set()
        assert (first.result().rows, second.result().rows) == (25, 40)
    assert load_manifest(store) == second.result()
    assert load_intake(store).records == second.result().version
    assert len(records(store)) == 40


def test_an_intake_that_lost_its_lock_publishes_nothing(
    store: FolderStore, stroke: CohortSpec, text: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrive(store, "a.csv", text, 1)

    def lost() -> None:
        raise LockLostError(store.uri, "rows")

    monkeypatch.setattr(FolderStore, "lock", lambda *_: nullcontext(Held(lost)))
    with pytest.raises(LockLostError):
        collect_records(store, stroke)
    assert everything(store, "records/") == {}


def test_a_hundred_damaged_uploads(
    store: FolderStore, stroke: CohortSpec, text: pd.DataFrame
) -> None:
    """None is let in unseen: each is reported with its cause, and the old version stays current."""
    arrive(store, "good.csv", text, 0)
    whole = as_file(good_lines(stroke, 40, 3))
    arrive(store, "hit.csv", whole, 1)
    first = collect_records(store, stroke)
    before = everything(store, "records/") | everything(store, "partitions/")
    draw = random.Random(20)
    for number in range(100):
        damage = fuzzed(whole, draw)
        arrive(store, "hit.csv", damage, 2 + number)
        with pytest.raises(BlockedUploadsError) as caught:
            collect_records(store, stroke)
        assert "incoming/hit.csv" in str(caught.value)
        found = load_intake(store)
        good, hit = found.uploads
        assert good == first.uploads[0]
        assert found.blocked["incoming/hit.csv"]
        assert hit.rows_in == hit.accepted + hit.quarantined + hit.duplicates
        if hit.refused is None and "are missing, more than 50%" in found.blocked[hit.key]:
            assert 0 < hit.rows_in < 20
        elif hit.refused is None:
            assert hit.rows_in > 0
            assert sum(hit.reasons.values()) >= hit.quarantined > hit.rows_in / 5
        assert load_manifest(store) == first
        now = everything(store, "records/") | everything(store, "partitions/")
        assert now.keys() == before.keys()
        del now["records/intake.json"]
        assert now.items() <= before.items()


def test_uploads_that_are_hardly_damaged(store: FolderStore, stroke: CohortSpec) -> None:
    """One bad row blocks nothing; it is held back with its cause, and no other is lost."""
    whole = as_file(good_lines(stroke, 40, 3))
    arrive(store, "hit.csv", whole, 1)
    collect_records(store, stroke)
    draw = random.Random(21)
    for number in range(100 if THOROUGH else 25):
        arrive(store, "hit.csv", hardly_damaged(whole, draw), 2 + number)
        (hit,) = collect_records(store, stroke).uploads
        assert (hit.rows_in, hit.accepted, hit.quarantined) == (40, 39, 1)
        assert sum(hit.reasons.values()) >= 1


def test_an_upload_that_lost_most_of_its_rows_blocks_until_it_is_whole_or_deleted(
    store: FolderStore, stroke: CohortSpec, text: pd.DataFrame
) -> None:
    arrive(store, "a.csv", text, 1)
    first = collect_records(store, stroke)
    arrive(store, "a.csv", text.iloc[:30], 2)
    assert collect_records(store, stroke).rows == 30
    arrive(store, "a.csv", text, 3)
    assert collect_records(store, stroke).version == first.version
    arrive(store, "a.csv", text.iloc[:29], 4)
    with pytest.raises(BlockedUploadsError, match=r"31 of the 60 rows .* missing, more than 50%"):
        collect_records(store, stroke)
    assert load_manifest(store).version == load_intake(store).records == first.version
    assert not new_uploads(store)
    assert collect_records(store, stroke, IntakeRules(max_lost=0.6)).rows == 29
    arrive(store, "a.csv", text.iloc[:2], 5)
    arrive(store, "b.csv", text.iloc[:9], 6)
    store.delete("incoming/a.csv")
    assert collect_records(store, stroke).rows == 9


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
    manifest = collect_records(store, stroke, ANYTHING)
    assert manifest.counts.quarantined >= 11
    assert "canary" not in store.get("records/manifest.json").decode()
    assert "canary" not in store.get("records/intake.json").decode()


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
            manifest = collect_records(store, stroke, ANYTHING)
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
        assert collect_records(store, stroke, ANYTHING) == manifest


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

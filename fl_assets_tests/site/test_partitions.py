from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fl_assets.cohorts.spec import CohortSpec
from fl_assets.cohorts.split import deal
from fl_assets.config import load_yaml_model
from fl_assets.consortium import Consortium, SplitFractions
from fl_assets.coordinator.simulation import upload
from fl_assets.site import partitions, rows
from fl_assets.site.intake import collect_records, new_uploads
from fl_assets.site.partitions import (
    PARTS,
    PartitionManifest,
    build_partitions,
    deal_parts,
    load_manifest,
    load_part,
    verify,
    write_partitions,
)
from fl_assets.site.rows import DamagedRowsError
from fl_assets.site.runs import SortedRuns
from fl_assets.storage import FolderStore, ObjectNotFoundError
from fl_assets.storage.base import StorageError
from fl_assets_tests.conftest import REPOSITORY
from fl_assets_tests.site.conftest import FRACTIONS, store_with_key


def build(store: FolderStore, patients: pd.DataFrame, spec: CohortSpec) -> PartitionManifest:
    """Everything from an upload to partitions."""
    upload(store, patients, spec)
    collect_records(store, spec)
    return build_partitions(store, spec, FRACTIONS)


def parts_by_id(store: FolderStore) -> dict[str, str]:
    manifest = load_manifest(store)
    frames = {part: load_part(store, manifest, part) for part in PARTS}
    found = {i: part for part, frame in frames.items() for i in frame["id"]}
    assert len(found) == sum(map(len, frames.values()))
    return found


def test_every_record_is_in_one_part(
    store: FolderStore, stroke: CohortSpec, patients: pd.DataFrame
) -> None:
    manifest = build(store, patients, stroke)
    assert set(parts_by_id(store)) == set(patients["id"])
    assert manifest == load_manifest(store)
    assert manifest.rows == len(patients)
    assert manifest.contract == stroke.version
    assert verify(store, stroke) == []
    together = pd.concat([load_part(store, manifest, part) for part in PARTS])
    pd.testing.assert_frame_equal(
        together.sort_values("id", ignore_index=True),
        patients.sort_values("id", ignore_index=True),
    )


def test_fractions_are_about_right() -> None:
    fractions = SplitFractions(salt="any old salt", train=0.5, validation=0.2, test=0.3)
    parts = deal_parts((str(i) for i in range(20_000)), fractions)
    shares = pd.Series(parts).value_counts(normalize=True)
    for part, wanted in (("train", 0.5), ("validation", 0.2), ("test", 0.3)):
        # Four standard deviations.
        assert shares[part] == pytest.approx(wanted, abs=4 * 0.5 / 20_000**0.5)


def test_a_part_depends_on_the_id_and_the_salt_alone() -> None:
    ids = [str(i) for i in range(1000)]
    parts = deal_parts(ids, FRACTIONS)
    assert parts.tolist() == deal_parts(ids[::-1], FRACTIONS)[::-1].tolist()
    assert parts[17] == deal_parts(["17"], FRACTIONS)[0]
    assert parts.tolist() == deal_parts(ids, FRACTIONS.model_copy()).tolist()
    other = deal_parts(ids, FRACTIONS.model_copy(update={"salt": "another salt"}))
    # Of independent deals 1 - (0.49 + 0.01 + 0.04) move.
    assert (parts != other).mean() == pytest.approx(0.46, abs=0.07)


def test_a_part_is_the_same_for_ever() -> None:
    """Changing the hash would move patients from test to train: that must not go unnoticed."""
    parts = deal_parts(["1", "2", "3", "4", "5", "6", "ä", ""], SplitFractions(salt="for ever"))
    assert [part[:2] for part in parts] == ["tr", "tr", "tr", "te", "tr", "va", "tr", "tr"]


def test_a_long_salt_is_used_to_its_end() -> None:
    ids = [str(i) for i in range(100)]
    first, second = (SplitFractions(salt="s" * 200 + end) for end in "ab")
    assert deal_parts(ids, first).tolist() != deal_parts(ids, second).tolist()


def test_moving_an_edge_moves_only_the_rows_beside_it() -> None:
    ids = [str(i) for i in range(5000)]
    wider = FRACTIONS.model_copy(update={"train": 0.75, "validation": 0.05})
    moved = deal_parts(ids, FRACTIONS) != deal_parts(ids, wider)
    assert moved.mean() == pytest.approx(0.05, abs=0.02)
    assert set(deal_parts(ids, FRACTIONS)[moved]) == {"validation"}


def test_new_rows_move_no_old_one(
    store: FolderStore, stroke: CohortSpec, patients: pd.DataFrame
) -> None:
    first = build(store, patients.iloc[:1200], stroke)
    before = parts_by_id(store)
    later = patients.iloc[1100:].to_csv(index=False).encode()
    store.put("incoming/second.csv", later)
    collect_records(store, stroke)
    second = build_partitions(store, stroke, FRACTIONS)
    after = parts_by_id(store)
    assert second.version != first.version
    assert len(after) == 2000
    assert {i: after[i] for i in before} == before
    # The old version is still there for the models that it trained.
    assert first.rows == sum(len(load_part(store, first, part)) for part in PARTS) == 1200


def test_the_same_records_are_the_same_version(
    tmp_path: Path, stroke: CohortSpec, patients: pd.DataFrame
) -> None:
    shuffled = patients.sample(frac=1, random_state=3)
    store = store_with_key(tmp_path / "one")
    first = build(store, patients, stroke)
    assert build(store_with_key(tmp_path / "other"), shuffled, stroke) == first
    assert build_partitions(store, stroke, FRACTIONS) == first
    salted = build_partitions(store, stroke, FRACTIONS.model_copy(update={"salt": "new salt"}))
    assert salted.version != first.version


def test_a_part_may_be_empty(
    store: FolderStore, stroke: CohortSpec, patients: pd.DataFrame
) -> None:
    manifest = build(store, patients.iloc[:1], stroke)
    assert sorted(file.rows for file in manifest.files.values()) == [0, 0, 1]
    assert verify(store, stroke) == []


def test_no_records_yet(store: FolderStore, stroke: CohortSpec) -> None:
    with pytest.raises(ObjectNotFoundError, match=r"records/manifest\.json"):
        build_partitions(store, stroke, FRACTIONS)
    with pytest.raises(ObjectNotFoundError, match=r"partitions/manifest\.json"):
        load_manifest(store)


def test_changed_records_are_not_dealt(
    store: FolderStore, stroke: CohortSpec, patients: pd.DataFrame
) -> None:
    upload(store, patients, stroke)
    manifest = collect_records(store, stroke)
    rows.write_rows(store, manifest.key, patients.iloc[1:])
    with pytest.raises(DamagedRowsError, match=manifest.key):
        build_partitions(store, stroke, FRACTIONS)


@pytest.mark.parametrize("data", [b"", b"not a file of rows", None])
def test_a_changed_file_is_found_and_not_used(
    data: bytes | None, store: FolderStore, stroke: CohortSpec, patients: pd.DataFrame
) -> None:
    manifest = build(store, patients, stroke)
    key = manifest.files["test"].key
    if data is None:
        # One cell of one row: as good a file as before.
        frame = load_part(store, manifest, "test")
        frame.loc[0, "age"] += 1
        rows.write_rows(store, key, frame)
    else:
        store.put(key, data)
    problems = verify(store, stroke)
    assert len(problems) == 1
    assert key in problems[0]
    with pytest.raises(DamagedRowsError, match=key):
        load_part(store, manifest, "test")


def test_a_file_that_is_gone(
    store: FolderStore, stroke: CohortSpec, patients: pd.DataFrame
) -> None:
    key = build(store, patients, stroke).files["train"].key
    store.delete(key)
    assert len(problems := verify(store, stroke)) == 1
    assert key in problems[0]


def redeal(store: FolderStore, frame: pd.DataFrame, parts: Any, spec: CohortSpec) -> None:
    """Write partitions that claim to be dealt from the current records."""
    write_partitions(store, frame, np.asarray(parts), spec, load_manifest(store).records)


def test_a_row_in_two_parts(store: FolderStore, stroke: CohortSpec, patients: pd.DataFrame) -> None:
    build(store, patients, stroke)
    parts = deal_parts(patients["id"], FRACTIONS)
    twice = pd.concat([patients, patients.iloc[:2]])
    other = np.where(parts[:2] == "train", "test", "train")
    redeal(store, twice, [*parts, *other], stroke)
    assert verify(store, stroke) == ["2 rows are in more than one part"]


def test_a_lost_row(store: FolderStore, stroke: CohortSpec, patients: pd.DataFrame) -> None:
    build(store, patients, stroke)
    parts = deal_parts(patients["id"], FRACTIONS)
    redeal(store, patients.iloc[3:], parts[3:], stroke)
    assert verify(store, stroke) == ["3 records are in no part, 0 rows are no record"]


def test_a_lost_row_with_a_strange_one_in_its_place(
    store: FolderStore, stroke: CohortSpec, patients: pd.DataFrame
) -> None:
    build(store, patients, stroke)
    strange = patients.copy()
    strange.loc[0, "id"] = "nobody"
    redeal(store, strange, deal_parts(patients["id"], FRACTIONS), stroke)
    assert verify(store, stroke) == ["1 records are in no part, 1 rows are no record"]


def test_a_wrong_number_in_the_manifest(
    store: FolderStore, stroke: CohortSpec, patients: pd.DataFrame
) -> None:
    manifest = build(store, patients, stroke)
    files = manifest.files | {"test": manifest.files["test"].model_copy(update={"rows": 7})}
    lying = manifest.model_copy(update={"files": files})
    store.put(partitions.MANIFEST, lying.model_dump_json().encode())
    held = manifest.files["test"].rows
    assert verify(store, stroke) == [f"test holds {held} rows, the manifest says 7"]


def test_rows_are_compared_in_bounded_memory(
    store: FolderStore,
    stroke: CohortSpec,
    patients: pd.DataFrame,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With runs and row groups of a few rows all is the same, and nothing is loaded whole."""
    monkeypatch.setattr(partitions, "SortedRuns", partial(SortedRuns, run=100))
    monkeypatch.setattr(rows, "ROW_GROUP", 64)
    monkeypatch.setattr(rows, "read_rows", None)
    build(store, patients, stroke)
    assert verify(store, stroke) == []
    parts = deal_parts(patients["id"], FRACTIONS)
    twice = pd.concat([patients, patients.iloc[:2]])
    redeal(store, twice, [*parts, *np.where(parts[:2] == "train", "test", "train")], stroke)
    assert verify(store, stroke) == ["2 rows are in more than one part"]
    redeal(store, patients.iloc[3:], parts[3:], stroke)
    assert verify(store, stroke) == ["3 records are in no part, 0 rows are no record"]


def test_newer_records_are_no_loss(
    store: FolderStore, stroke: CohortSpec, patients: pd.DataFrame
) -> None:
    build(store, patients.iloc[:500], stroke)
    upload(store, patients, stroke)
    collect_records(store, stroke)
    assert verify(store, stroke) == []


class BrokenStore:
    """A store whose n-th write fails."""

    def __init__(self, store: FolderStore, fails: int) -> None:
        self._store, self._fails = store, fails

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def put(self, key: str, data: bytes) -> object:
        self._count(key)
        return self._store.put(key, data)

    def put_file(self, key: str, path: Path) -> object:
        self._count(key)
        return self._store.put_file(key, path)

    def _count(self, key: str) -> None:
        self._fails -= 1
        if not self._fails:
            raise StorageError(f"no more room for {key}")


@pytest.mark.faults
@pytest.mark.parametrize("fails", [1, 2, 3, 4, 5])
def test_a_crash_leaves_the_old_version_current(
    fails: int, store: FolderStore, stroke: CohortSpec, patients: pd.DataFrame
) -> None:
    first = build(store, patients.iloc[:500], stroke)
    before = parts_by_id(store)
    upload(store, patients, stroke)
    collect_records(store, stroke)
    # Three files, the version's own manifest, the current manifest.
    with pytest.raises(StorageError, match=r"manifest\.json" if fails > 3 else r"\.parquet"):
        build_partitions(BrokenStore(store, fails), stroke, FRACTIONS)  # type: ignore[arg-type]
    assert load_manifest(store) == first
    assert parts_by_id(store) == before
    assert verify(store, stroke) == []
    again = build_partitions(store, stroke, FRACTIONS)
    assert again.rows == 2000
    assert verify(store, stroke) == []


@pytest.mark.faults
@pytest.mark.parametrize("fails", [1, 2, 3])
def test_a_crash_in_intake_leaves_the_old_records_current(
    fails: int, store: FolderStore, stroke: CohortSpec, patients: pd.DataFrame
) -> None:
    build(store, patients.iloc[:500], stroke)
    first = collect_records(store, stroke)
    upload(store, patients, stroke)
    with pytest.raises(StorageError):
        collect_records(BrokenStore(store, fails), stroke)  # type: ignore[arg-type]
    assert verify(store, stroke) == []
    assert len(rows.read_rows(store, first.key, first.sha256)) == 500
    # Whatever had been written, the upload is not yet done with.
    assert new_uploads(store)
    assert collect_records(store, stroke).rows == 2000
    assert not new_uploads(store)


@pytest.mark.real_data
def test_every_public_row_is_at_one_hospital_and_in_one_part(
    tmp_path: Path, stroke: CohortSpec, real_patients: pd.DataFrame
) -> None:
    consortium = load_yaml_model(REPOSITORY / "consortium.yaml", Consortium)
    dealt = deal(real_patients, stroke, consortium)
    found: list[str] = []
    for index, name in enumerate(dealt.hospitals):
        store = FolderStore(tmp_path / name)
        upload(store, real_patients[dealt.assignment == index], stroke)
        collect_records(store, stroke)
        manifest = build_partitions(store, stroke, consortium.split)
        assert verify(store, stroke) == []
        found += parts_by_id(store)
        for part, wanted in (("train", 0.7), ("validation", 0.1), ("test", 0.2)):
            assert manifest.files[part].rows / manifest.rows == pytest.approx(wanted, abs=0.05)
    assert len(found) == 5110
    assert sorted(found) == sorted(real_patients["id"])

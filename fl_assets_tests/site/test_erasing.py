"""Erasing one patient: from uploads of every kind, and from every version of what came of them."""

from __future__ import annotations

import gzip
import io
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Barrier, Event

import pandas as pd
import pytest

from fl_assets.cohorts.spec import CohortSpec
from fl_assets.cohorts.synthetic import generate
from fl_assets.consortium import IntakeRules, SplitFractions
from fl_assets.site import partitions, rows
from fl_assets.site.erasing import (
    CohortWithoutIdsError,
    ErasureIncompleteError,
    UnknownPatientError,
    erase_patient,
)
from fl_assets.site.erasure import erased_ids, erased_partitions, fingerprint
from fl_assets.site.gathering import gather
from fl_assets.site.intake import collect_records, load_manifest
from fl_assets.site.receipts import load_receipts
from fl_assets.storage import FolderStore, ObjectInfo

SPLIT = SplitFractions(salt="erasing-1")
ID = "CANARY-4711"
RULES = IntakeRules()


def parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    return buffer.getvalue()


KINDS: dict[str, Callable[[pd.DataFrame], bytes]] = {
    "comma": lambda f: f.to_csv(index=False).encode(),
    "semicolon, byte order mark, CRLF": lambda f: f.to_csv(
        index=False, sep=";", lineterminator="\r\n"
    ).encode("utf-8-sig"),
    "tab, UTF-16": lambda f: f.to_csv(index=False, sep="\t").encode("utf-16"),
    "gzip": lambda f: gzip.compress(f.to_csv(index=False).encode()),
    "parquet": parquet,
    "no last line end": lambda f: f.to_csv(index=False).encode().rstrip(),
}


@pytest.fixture
def text(stroke: CohortSpec) -> pd.DataFrame:
    """Forty patients; the one to erase stands at the end."""
    frame = generate(stroke, 40, 5).reset_index(drop=True)
    frame["id"] = frame["id"].astype(str)
    frame.loc[39, "id"] = ID
    return frame


def erase(store: FolderStore, spec: CohortSpec, patient: str = ID, rules=RULES):
    def rebuild(taken_out: Mapping[str, int]) -> None:
        collect_records(store, spec, rules, taken_out=taken_out)
        partitions.build_partitions(store, spec, SPLIT)

    return erase_patient(store, spec, "hospital-a", patient, rebuild)


def build(store: FolderStore, spec: CohortSpec, rules=RULES) -> None:
    collect_records(store, spec, rules)
    partitions.build_partitions(store, spec, SPLIT)


def everything(store: FolderStore) -> dict[tuple[str, str], bytes]:
    """Every byte on the disk, unpacked, by file; but for who held a lock last."""
    root = Path(store.uri.removeprefix("file://"))
    found = {}
    for path in root.rglob("*"):
        if path.is_file() and path.parent.name != ".locks":
            data = path.read_bytes()
            if data.startswith(b"\x1f\x8b"):
                data = gzip.decompress(data)
            elif data.startswith(b"PAR1"):
                data = pd.read_parquet(io.BytesIO(data)).to_csv().encode()
            elif data.startswith((b"\xff\xfe", b"\xfe\xff")):
                data = data.decode("utf-16").encode()
            found[str(path.relative_to(root)), path.name] = data
    return found


def who_holds(store: FolderStore, patient: str = ID) -> list[str]:
    return [path for (path, _), data in everything(store).items() if patient.encode() in data]


@pytest.mark.parametrize("kind", KINDS)
def test_a_patient_is_gone_from_every_byte_of_the_store(
    store: FolderStore, stroke: CohortSpec, text: pd.DataFrame, kind: str
) -> None:
    store.put("incoming/a.csv", KINDS[kind](text))
    build(store, stroke)
    before = load_manifest(store)
    dealt = partitions.load_manifest(store).version
    assert who_holds(store)

    done = erase(store, stroke)

    assert who_holds(store) == []
    after = load_manifest(store)
    assert (after.rows, before.rows) == (39, 40)
    assert after.version != before.version
    assert done.receipt is not None
    assert done.receipt.rows == 1
    assert done.receipt.partitions == (dealt,)
    assert load_receipts(store) == [done.receipt]
    assert {"incoming", "records", "partitions"} == {c.name for c in done.receipt.deleted}
    assert list(erased_partitions(store)) == [dealt]


@pytest.mark.parametrize("kind", KINDS)
def test_all_else_of_an_upload_stays_byte_by_byte(
    store: FolderStore, stroke: CohortSpec, text: pd.DataFrame, kind: str
) -> None:
    # In the middle; the others' bytes are those of a file that never had the row.
    frame = text.iloc[[*range(20), 39, *range(20, 39)]].reset_index(drop=True)
    store.put("incoming/a.csv", KINDS[kind](frame))
    build(store, stroke)
    erase(store, stroke)
    without = KINDS[kind](frame.drop(index=20).reset_index(drop=True))
    found = store.get("incoming/a.csv")
    if kind == "parquet":
        pd.testing.assert_frame_equal(
            pd.read_parquet(io.BytesIO(found)), pd.read_parquet(io.BytesIO(without))
        )
    elif kind == "gzip":
        assert gzip.decompress(found) == gzip.decompress(without)
    else:
        assert found == without


def test_quarantine_duplicates_replaced_and_deleted_uploads_are_looked_through(
    store: FolderStore, stroke: CohortSpec, text: pd.DataFrame
) -> None:
    rules = IntakeRules(max_quarantined=1.0)
    bad = text.tail(1).assign(age="999")
    store.put("incoming/bad.csv", pd.concat([text.head(5), bad]).to_csv(index=False).encode())
    twice = pd.concat([text, text.tail(1).assign(age="50")])
    twice_text = twice.to_csv(index=False) + f"{ID},a,line,of,another,shape\n"
    store.put("incoming/twice.csv", twice_text.encode())
    store.put("incoming/gone.csv", text.tail(1).to_csv(index=False).encode())
    build(store, stroke, rules)
    store.delete("incoming/gone.csv")
    store.put("incoming/replaced.csv", text.to_csv(index=False).encode())
    store.put("incoming/replaced.csv", text.head(30).to_csv(index=False).encode())
    build(store, stroke, rules)

    done = erase(store, stroke, rules=rules)

    assert who_holds(store) == []
    assert store.versions("incoming/gone.csv") == []
    assert done.receipt is not None
    assert (done.receipt.rewritten, done.receipt.rows) == (2, 4)
    # With the patient of 50 years, and as replaced.csv first had the row.
    assert len(done.receipt.partitions) == 2


def test_the_latest_upload_still_wins(
    store: FolderStore, stroke: CohortSpec, text: pd.DataFrame
) -> None:
    """A rewritten file is newer than a correction that came after it."""
    store.put("incoming/z.csv", text.to_csv(index=False).encode())
    store.put("incoming/a.csv", text.head(3).assign(age="33").to_csv(index=False).encode())
    build(store, stroke)
    erase(store, stroke)
    manifest = load_manifest(store)
    records = rows.read_rows(store, manifest.key).set_index("id")
    assert records.loc[text["id"].head(3), "age"].tolist() == [33.0] * 3
    assert [u.key for u in manifest.uploads] == ["incoming/z.csv", "incoming/a.csv"]


def test_a_later_upload_that_nobody_can_read_stays_as_it_is(
    store: FolderStore, stroke: CohortSpec, text: pd.DataFrame
) -> None:
    cut = gzip.compress(text.head(3).to_csv(index=False).encode())[:-9]
    store.put("incoming/a.csv", text.to_csv(index=False).encode())
    store.put("incoming/cut.csv.gz", cut)
    build(store, stroke)
    assert erase(store, stroke).unread == ("incoming/cut.csv.gz",)
    assert store.get("incoming/cut.csv.gz") == cut


def test_a_later_upload_does_not_bring_the_patient_back(
    store: FolderStore, stroke: CohortSpec, text: pd.DataFrame
) -> None:
    store.put("incoming/a.csv", text.to_csv(index=False).encode())
    build(store, stroke)
    erase(store, stroke)
    store.put("incoming/later.csv", text.to_csv(index=False).encode())
    build(store, stroke)
    manifest = load_manifest(store)
    assert manifest.rows == 39
    assert manifest.reasons == {"id: erased at the patient's request": 1}
    # And can be erased again, since the hospital has sent the row anew.
    assert erase(store, stroke).receipt is not None
    assert who_holds(store) == []


def test_an_unknown_id_changes_nothing_and_is_not_repeated(
    store: FolderStore, stroke: CohortSpec, text: pd.DataFrame
) -> None:
    store.put("incoming/a.csv", text.to_csv(index=False).encode())
    build(store, stroke)
    before = everything(store)
    with pytest.raises(UnknownPatientError) as unknown:
        erase(store, stroke, "SECRET-1")
    assert "SECRET-1" not in str(unknown.value)
    known = {key: data for key, data in everything(store).items() if key[0] != "keys/site.key"}
    assert known == {key: data for key, data in before.items() if key[0] != "keys/site.key"}


def test_erasing_twice_says_that_nothing_was_left(
    store: FolderStore, stroke: CohortSpec, text: pd.DataFrame
) -> None:
    store.put("incoming/a.csv", text.to_csv(index=False).encode())
    build(store, stroke)
    erase(store, stroke)
    assert erase(store, stroke).receipt is None
    assert len(load_receipts(store)) == 1


def test_a_cohort_without_ids_is_refused(store: FolderStore, stroke: CohortSpec) -> None:
    bare = stroke.model_copy(update={"id_column": None})
    with pytest.raises(CohortWithoutIdsError, match="delete-data hospital-a --force"):
        erase(store, bare)


class KilledError(BaseException):
    """Stands for the end of the process."""


class MortalStore:
    """A store whose process dies at its n-th change."""

    def __init__(self, store: FolderStore, changes: int) -> None:
        self._store, self._left = store, changes

    def __getattr__(self, name: str) -> object:
        if name in {"put", "put_file", "put_if_absent", "delete", "purge"}:
            self._left -= 1
            if self._left < 0:
                raise KilledError
        return getattr(self._store, name)


@pytest.mark.faults
def test_an_erasure_that_is_killed_anywhere_is_finished_by_the_next(
    tmp_path: Path, stroke: CohortSpec, text: pd.DataFrame
) -> None:
    built = FolderStore(tmp_path / "built")
    built.put("incoming/a.csv", text.to_csv(index=False).encode())
    built.put("incoming/b.csv", text.tail(2).to_csv(index=False).encode())
    build(built, stroke)
    dealt = partitions.load_manifest(built).version
    for changes in range(0, 100, 2):
        # The hard links of its history are not kept, which no version minds.
        store = FolderStore(shutil.copytree(tmp_path / "built", tmp_path / f"store-{changes}"))
        try:
            erase(MortalStore(store, changes), stroke)  # type: ignore[arg-type]
        except KilledError:
            erase(store, stroke)
            assert who_holds(store) == [], changes
            assert load_manifest(store).rows == 39
            assert list(erased_partitions(store)) == [dealt]
        else:
            break
    assert changes > 10


def test_a_blocked_intake_leaves_the_erasure_open(
    store: FolderStore, stroke: CohortSpec, text: pd.DataFrame
) -> None:
    store.put("incoming/a.csv", text.to_csv(index=False).encode())
    build(store, stroke)
    bad = text.head(9).assign(age="999").to_csv(index=False).encode()
    blocking = store.put("incoming/bad.csv", bad)
    assert isinstance(blocking, ObjectInfo)
    with pytest.raises(ErasureIncompleteError, match="1 uploads block the records"):
        erase(store, stroke)
    assert not load_receipts(store)
    store.delete("incoming/bad.csv")
    assert erase(store, stroke).receipt is not None
    assert who_holds(store) == []


@pytest.mark.faults
@pytest.mark.parametrize("changes", range(0, 30, 2))
def test_rows_that_an_erasure_took_out_are_no_loss_that_blocks(
    tmp_path: Path, stroke: CohortSpec, text: pd.DataFrame, changes: int
) -> None:
    """Also where most lines of a file were the patient's, and the first attempt was killed."""
    store = FolderStore(tmp_path)
    store.put("incoming/a.csv", text.head(9).to_csv(index=False).encode())
    bare = text.iloc[[39, 30]].to_csv(index=False)
    store.put("incoming/b.csv", bare.encode())
    rules = IntakeRules(max_lost=0.1)
    build(store, stroke, rules)
    with suppress(KilledError):
        erase(MortalStore(store, changes), stroke, rules=rules)  # type: ignore[arg-type]
    erase(store, stroke, rules=rules)
    assert who_holds(store) == []
    assert load_manifest(store).rows == 10


class Meanwhile:
    """A store where something happens, once, right before an operation on a key."""

    def __init__(self, store: FolderStore, operation: str, key: str, happens) -> None:
        self._store, self._when, self._happens = store, (operation, key), happens

    def __getattr__(self, name: str):
        found = getattr(self._store, name)
        if name != self._when[0]:
            return found

        def carry_out(*arguments):
            if arguments[:1] == self._when[1:] and self._happens:
                happens, self._happens = self._happens, None
                happens()
            return found(*arguments)

        return carry_out


@pytest.mark.parametrize("moment", ["open", "list", "put_file", "versions"])
@pytest.mark.parametrize("also_patient", [False, True])
def test_a_correction_that_comes_while_its_file_is_rewritten_is_neither_covered_nor_purged(
    store: FolderStore, stroke: CohortSpec, text: pd.DataFrame, moment: str, also_patient: bool
) -> None:
    """At the look, between the look and our put, and after it."""
    store.put("incoming/a.csv", text.to_csv(index=False).encode())
    build(store, stroke)
    correction = text.assign(age="33") if also_patient else text.head(39).assign(age="33")

    def correct() -> None:
        store.put("incoming/a.csv", correction.to_csv(index=False).encode())

    done = erase(Meanwhile(store, moment, "incoming/a.csv", correct), stroke)  # type: ignore[arg-type]

    assert done.receipt is not None
    assert (
        store.get("incoming/a.csv") == text.head(39).assign(age="33").to_csv(index=False).encode()
    )
    records = rows.read_rows(store, load_manifest(store).key)
    assert (len(records), set(records["age"])) == (39, {33.0})
    assert who_holds(store) == []


def test_an_upload_with_the_patient_that_comes_after_all_was_rewritten_leaves_no_receipt(
    store: FolderStore, stroke: CohortSpec, text: pd.DataFrame
) -> None:
    store.put("incoming/a.csv", text.to_csv(index=False).encode())
    build(store, stroke)

    def arrive() -> None:
        store.put("incoming/late.csv", text.to_csv(index=False).encode())

    late = Meanwhile(store, "purge", "incoming/a.csv", arrive)
    with pytest.raises(ErasureIncompleteError, match=r"meanwhile holds .*\(incoming/late\.csv\)"):
        erase(late, stroke)  # type: ignore[arg-type]
    assert load_receipts(store) == []
    assert erase(store, stroke).receipt is not None
    assert who_holds(store) == []


def test_an_erasure_waits_for_an_intake_that_has_read_the_rows_already(
    store: FolderStore, stroke: CohortSpec, text: pd.DataFrame
) -> None:
    store.put("incoming/a.csv", text.to_csv(index=False).encode())
    has_read, may_go_on = Event(), Event()

    @contextmanager
    def slow(*arguments):
        with gather(*arguments) as gathered:
            has_read.set()
            assert may_go_on.wait(60)
            yield gathered

    with ThreadPoolExecutor(2) as pool:
        intake = pool.submit(collect_records, store, stroke, RULES, slow)
        assert has_read.wait(60)
        other = FolderStore(Path(store.uri.removeprefix("file://")))
        erasing = pool.submit(erase, other, stroke)
        assert not wait([erasing], timeout=0.5).done
        assert erased_ids(store) == frozenset()
        may_go_on.set()
        assert intake.result().rows == 40
        assert erasing.result().receipt is not None
    assert load_manifest(store).rows == 39
    assert who_holds(store) == []


def test_two_erasures_at_once_both_count(
    store: FolderStore, stroke: CohortSpec, text: pd.DataFrame
) -> None:
    store.put("incoming/a.csv", text.to_csv(index=False).encode())
    build(store, stroke)
    both = [ID, str(text.loc[7, "id"])]
    barrier = Barrier(2)

    def erase_one(patient: str):
        barrier.wait()
        return erase(store, stroke, patient)

    with ThreadPoolExecutor(2) as pool:
        receipts = [done.receipt for done in pool.map(erase_one, both)]
    assert None not in receipts
    assert erased_ids(store) == {fingerprint(rows.site_key(store), patient) for patient in both}
    assert load_manifest(store).rows == 38

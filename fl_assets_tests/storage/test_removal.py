"""Erasing a patient and deleting everything, on every kind of store."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from fl_assets.cohorts.spec import load_cohort
from fl_assets.cohorts.synthetic import generate
from fl_assets.consortium import SplitFractions
from fl_assets.site import partitions, rows
from fl_assets.site.deletion import delete_data
from fl_assets.site.egress import EgressLog
from fl_assets.site.erasing import UnknownPatientError, erase_patient
from fl_assets.site.intake import NOTHING, collect_records, load_manifest
from fl_assets.site.receipts import load_receipts
from fl_assets.storage import FolderStore, SiteStore

ID = "CANARY-4711"
SPLIT = SplitFractions(salt="removal-1")


def test_a_patient_is_erased_and_then_everything_deleted(store: SiteStore) -> None:
    stroke = load_cohort("stroke")
    text = generate(stroke, 30, 5).reset_index(drop=True)
    text["id"] = text["id"].astype(str).mask(text.index == 4, ID)
    store.put("incoming/z.csv", text.to_csv(index=False).encode())
    store.put("incoming/z.csv", text.head(20).to_csv(index=False).encode())

    def build(taken_out: Mapping[str, int] = NOTHING) -> None:
        collect_records(store, stroke, taken_out=taken_out)
        partitions.build_partitions(store, stroke, SPLIT)

    build()
    before = load_manifest(store)
    EgressLog(store).release("update", "run", b"weights")

    done = erase_patient(store, stroke, "hospital-a", ID, build)

    assert done.receipt is not None
    after = load_manifest(store)
    assert (before.rows, after.rows) == (20, 19)
    assert ID not in rows.read_rows(store, after.key)["id"].tolist()
    assert [len(store.versions(key)) for key in ("incoming/z.csv", before.key)] == [1, 0]
    assert ID.encode() not in store.get("incoming/z.csv")
    with pytest.raises(UnknownPatientError):
        erase_patient(store, stroke, "hospital-a", "CANARY-9", build)

    receipt = delete_data(store, "hospital-a")

    stays = {"egress", "receipts", "keys", "erased.json"}
    # A folder's locks are no objects.
    assert {info.key.split("/")[0] for info in store.history()} - {"locks"} == stays
    assert load_receipts(store) == [done.receipt, receipt]
    assert {"incoming", "records", "partitions"} <= {c.name for c in receipt.deleted}
    assert delete_data(store, "hospital-a").deleted == ()


def test_a_rewritten_upload_is_still_older_than_its_correction(store: SiteStore) -> None:
    """S3 tells times in seconds."""
    stroke = load_cohort("stroke")
    text = generate(stroke, 30, 5).reset_index(drop=True)
    text["id"] = text["id"].astype(str).mask(text.index == 4, ID)
    first = store.put("incoming/z.csv", text.to_csv(index=False).encode())
    correction = text.head(3).assign(age="33").to_csv(index=False).encode()
    # Not at the same moment, which would leave the order to the names.
    while store.put("clock", b"").modified <= first.modified:
        pass
    store.put("incoming/a.csv", correction)

    def build(taken_out: Mapping[str, int] = NOTHING) -> None:
        collect_records(store, stroke, taken_out=taken_out)
        partitions.build_partitions(store, stroke, SPLIT)

    build()
    erase_patient(store, stroke, "hospital-a", ID, build)
    records = rows.read_rows(store, load_manifest(store).key).set_index("id")
    assert records.loc[text["id"].head(3), "age"].tolist() == [33.0] * 3


def test_what_broke_off_is_discarded(store: SiteStore) -> None:
    assert store.discard_unfinished() == 0
    store.put("incoming/whole.csv", b"rows")
    _break_off(store)
    assert store.discard_unfinished() == 1
    assert store.discard_unfinished() == 0
    assert store.get("incoming/whole.csv") == b"rows"


def _break_off(store: SiteStore) -> None:
    """Leave a part of an object that never became one."""
    if isinstance(store, FolderStore):
        staging = store._root / ".tmp"
        (staging / "half").write_bytes(b"half a file")
        return
    store._client.create_multipart_upload(  # type: ignore[attr-defined]
        Bucket=store._bucket,  # type: ignore[attr-defined]
        Key=store._name("incoming/half.csv"),  # type: ignore[attr-defined]
    )

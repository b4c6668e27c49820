"""Receipts of what a hospital deleted of its own data."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Literal

from fl_assets.config import StrictModel
from fl_assets.storage import ObjectInfo, SiteStore
from fl_assets.storage.documents import load_document

PREFIX = "receipts/"

RELEASED = (
    "Nothing is given back to the privacy budget: what was released stays released, and what was "
    "spent on these patients stays spent."
)


class DeletedClass(StrictModel):
    """What was deleted of one class of objects.

    Attributes:
        name: first part of the keys.
        objects, versions: how many keys, and versions of them.
        bytes: of all versions.
    """

    name: str
    objects: int
    versions: int
    bytes: int


class Receipt(StrictModel):
    """What was deleted, without a value or an id of a patient.

    Attributes:
        kind: of all data, or of one patient's rows.
        hospital: name.
        time: UTC.
        deleted: by class of objects.
        sha256: over the sorted list of ``key version bytes`` of all that was deleted.
        unfinished: transfers that had broken off, whose parts were removed as well.
        rewritten: uploads that were stored anew without the patient.
        rows: lines that were taken out of them.
        partitions: versions of the partitions that held the patient.
        kept: what was not deleted, and why.
        statement: what the deletion does not do.
    """

    kind: Literal["deletion", "erasure"]
    hospital: str
    time: datetime
    deleted: tuple[DeletedClass, ...]
    sha256: str
    unfinished: int = 0
    rewritten: int = 0
    rows: int = 0
    partitions: tuple[str, ...] = ()
    kept: dict[str, str]
    statement: str = RELEASED

    @property
    def name(self) -> str:
        """Key of the receipt in the hospital's store."""
        return f"{PREFIX}{self.time:%Y-%m-%dT%H%M%S.%fZ}-{self.kind}.json"


def count_deleted(deleted: Iterable[ObjectInfo]) -> tuple[tuple[DeletedClass, ...], str]:
    """Return deleted versions by class, and the hash over the list of them."""
    infos = sorted(deleted, key=lambda info: (info.key, info.version))
    keys: dict[str, set[str]] = {}
    versions: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for info in infos:
        name = info.key.split("/")[0]
        keys.setdefault(name, set()).add(info.key)
        versions[name] += 1
        sizes[name] += info.size
    listed = "".join(f"{info.key} {info.version} {info.size}\n" for info in infos)
    classes = tuple(
        DeletedClass(name=name, objects=len(found), versions=versions[name], bytes=sizes[name])
        for name, found in keys.items()
    )
    return classes, hashlib.sha256(listed.encode()).hexdigest()


def save_receipt(store: SiteStore, receipt: Receipt) -> None:
    """Store a receipt for good.

    Raises:
        ObjectExistsError: there is one of that moment.
    """
    store.put_if_absent(receipt.name, receipt.model_dump_json(indent=2).encode())


def load_receipts(store: SiteStore) -> list[Receipt]:
    """Return all receipts of the hospital, oldest first."""
    return [load_document(store, i.key, Receipt) for i in store.list(PREFIX)]

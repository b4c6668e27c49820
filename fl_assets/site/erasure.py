"""Patients who were erased at their request, remembered without their ids."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from datetime import datetime

from pydantic import Field

from fl_assets.config import StrictModel
from fl_assets.storage import ObjectNotFoundError, SiteStore
from fl_assets.storage.documents import load_document

TOMBSTONES = "erased.json"


class Tombstones(StrictModel):
    """What is remembered of erased patients.

    Attributes:
        fingerprints: of their ids, sorted so that their order tells nothing.
        partitions: versions of the partitions that held one of them, with the time of the erasure.
    """

    fingerprints: tuple[str, ...] = ()
    partitions: dict[str, datetime] = Field(default_factory=dict)


def fingerprint(key: bytes, patient_id: str) -> str:
    """Return what stands for an id in the tombstones.

    HMAC-SHA-256 (RFC 2104): ids are few enough to be tried one by one, so that a plain hash of one
    would tell it to whoever gets hold of the file.

    Args:
        key: of the hospital, see :func:`fl_assets.site.rows.site_key`.
        patient_id: as it stands in the records.
    """
    return hmac.new(key, patient_id.encode(), hashlib.sha256).hexdigest()


def erased_ids(store: SiteStore) -> frozenset[str]:
    """Return the fingerprints of all erased ids."""
    return frozenset(_load(store).fingerprints)


def erased_partitions(store: SiteStore) -> dict[str, datetime]:
    """Return the partition versions that held somebody who was erased, and since when."""
    return _load(store).partitions


def add_tombstone(store: SiteStore, mark: str, partitions: Iterable[str], when: datetime) -> None:
    """Remember an erased patient.

    Args:
        store: the hospital's own.
        mark: fingerprint of the id.
        partitions: versions of the partitions that held the patient.
        when: of the erasure, UTC.
    """
    known = _load(store)
    found = Tombstones(
        fingerprints=tuple(sorted({*known.fingerprints, mark})),
        partitions=dict.fromkeys(sorted(partitions), when) | known.partitions,
    )
    store.put(TOMBSTONES, found.model_dump_json().encode())


def _load(store: SiteStore) -> Tombstones:
    try:
        return load_document(store, TOMBSTONES, Tombstones)
    except ObjectNotFoundError:
        return Tombstones()

"""What is an upload, and what became of one."""

from __future__ import annotations

from collections.abc import Container

from pydantic import Field

from fl_assets.config import StrictModel
from fl_assets.storage import ObjectInfo, SiteStore

INCOMING = "incoming/"
ERASED = "id: erased at the patient's request"
"""Reason for which a row is in quarantine without its content."""

_UNFINISHED = (".tmp", ".part", ".partial", ".crdownload", ".filepart", "~")


class Upload(StrictModel):
    """What became of one uploaded file.

    Attributes:
        key, version: the object, as stored.
        rows_in, accepted, quarantined, duplicates: as in
            :class:`fl_assets.cohorts.contract.Counts`, within the file.
        reasons: rows held back, by reason.
        refused: why the whole file was refused, or None.
    """

    key: str
    version: str
    rows_in: int = 0
    accepted: int = 0
    quarantined: int = 0
    duplicates: int = 0
    reasons: dict[str, int] = Field(default_factory=dict)
    refused: str | None = None

    @property
    def bad_share(self) -> float:
        """Share of the rows that are in quarantine for a fault of the file."""
        return (self.quarantined - self.reasons.get(ERASED, 0)) / max(self.rows_in, 1)


def is_upload(info: ObjectInfo) -> bool:
    """Tell whether an object in ``incoming/`` is an upload, and not a part or draft of one.

    Transfer tools and office programs write under another name first; an empty object is one that
    has only just been opened.
    """
    name = info.key.rpartition("/")[2]
    return (
        info.key.startswith(INCOMING)
        and info.size > 0
        and not name.lower().endswith(_UNFINISHED)
        and not name.startswith((".", "~$"))
    )


def list_uploads(store: SiteStore, known: Container[str]) -> list[ObjectInfo]:
    """Return the uploads, oldest first.

    Args:
        store: the hospital's.
        known: keys that were uploads before. They stay so: if such an object is empty now, its
            rows were lost on the way, which must be told.
    """
    infos = (i for i in store.list(INCOMING) if is_upload(i) or i.key in known)
    return sorted(infos, key=lambda info: (info.modified, info.key))

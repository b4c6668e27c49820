"""Taking one patient out of all uploads, while others may arrive."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime

from fl_assets.cohorts.spec import CohortSpec
from fl_assets.errors import FlAssetsError
from fl_assets.site.rewriting import Span, rewrite
from fl_assets.site.uploads import INCOMING
from fl_assets.site.whereabouts import Version, Whereabouts, version_of
from fl_assets.storage import ObjectInfo, SiteStore

_ROUNDS = 10
_TICK = 0.1  # seconds; of S3's times it takes ten


class UploadsKeepComingError(FlAssetsError):
    """While the uploads were rewritten, new ones came again and again."""

    def __init__(self, uri: str) -> None:
        super().__init__(
            f"{uri}: new uploads came in each of {_ROUNDS} rounds of looking for a patient's rows: "
            "let the transfers end, then erase again"
        )


@dataclass
class TakingOut:
    """Takes a patient out of a hospital's uploads.

    The latest upload wins where several have one id, so those after the first rewritten one are
    stored anew as well, in their order.

    A hospital that copies a file into ``incoming/`` asks for no lock. What arrives meanwhile is
    never counted as looked through: where it replaced an upload it stays, and where it came between
    the last look at its key and our own put, which then covers it, it is stored anew on top. Then
    it is looked through in its turn.

    Attributes:
        where: the rows that were found; what arrives meanwhile is added.
        rewritten: keys of uploads that were stored anew without the patient.
        rows: lines that were taken out.
    """

    store: SiteStore
    spec: CohortSpec
    patient_id: str
    where: Whereabouts
    rewritten: set[str] = field(default_factory=set)
    rows: int = 0
    _ours: set[Version] = field(default_factory=set)
    _deleted: set[str] = field(default_factory=set)
    _newest: datetime | None = None

    def run(self) -> None:
        """Do it.

        Raises:
            UploadsKeepComingError: new ones came again and again.
        """
        seen = self.where.seen
        pending = [info for info in self.store.list(INCOMING) if version_of(info) in seen]
        for _ in range(_ROUNDS):
            for info in sorted(pending, key=lambda info: (info.modified, info.key)):
                self._handle(info)
            pending = self._arrived()
            if not pending:
                return
        raise UploadsKeepComingError(self.store.uri)

    def _arrived(self) -> list[ObjectInfo]:
        """Look through what has come since, and return the latest of each key."""
        current = {version_of(info) for info in self.store.list(INCOMING)}
        known = self.where.seen | self._ours
        latest: dict[str, ObjectInfo] = {}
        # Of each key the newest first, but a file may be dated back: then the current one counts.
        for info in self.store.history(INCOMING):
            if version_of(info) not in known:
                is_current = version_of(info) in current
                self.where.look_into_upload(
                    self.store, info, self.spec, self.patient_id, is_current
                )
                if is_current or info.key not in latest:
                    latest[info.key] = info
        return list(latest.values())

    def _handle(self, info: ObjectInfo) -> None:
        on_top = self._current(info.key)
        covered = info.key in self._deleted if on_top is None else version_of(on_top) in self._ours
        if not covered and (on_top is None or on_top.version != info.version):
            # The hospital has replaced it meanwhile, or taken it back.
            return
        found = self.where.uploads.get(version_of(info))
        if found is None:
            if covered or self._is_early(info):
                self._store_anew(info, [])
            return
        self.rows += len(found.spans)
        if found.others:
            self._store_anew(info, found.spans)
            self.rewritten.add(info.key)
        elif on_top is not None:
            # A file without a row would be refused, and block the records.
            self._deleted.add(info.key)
            self.store.delete(info.key)

    def _is_early(self, info: ObjectInfo) -> bool:
        return self._newest is not None and info.modified <= self._newest

    def _store_anew(self, info: ObjectInfo, spans: list[Span]) -> None:
        """Store an upload until it is later than all before; a store's clock may tick slowly."""
        while True:
            put = rewrite(self.store, info, spans)
            self._ours.add(version_of(put))
            # A listing's time, which decides the order, may differ from that of the put.
            times = (i.modified for i in self.store.versions(put.key) if i.version == put.version)
            modified = next(times, put.modified)
            if self._newest is None or modified > self._newest:
                self._newest = modified
                return
            time.sleep(_TICK)

    def _current(self, key: str) -> ObjectInfo | None:
        return next((info for info in self.store.list(key) if info.key == key), None)

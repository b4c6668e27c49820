"""From uploads to the latest row of every id, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Protocol

from fl_assets.cohorts.spec import CohortSpec
from fl_assets.site.duplicates import Duplicates, latest, without
from fl_assets.site.erased_rows import ErasedRows
from fl_assets.site.rows import RowWriter
from fl_assets.site.runs import SortedRuns
from fl_assets.site.upload_rows import UploadRows, stored_schema
from fl_assets.site.uploads import Upload
from fl_assets.storage import ObjectInfo, SiteStore


@dataclass(frozen=True)
class Gathered:
    """All that uploads hold, not yet the current records.

    Attributes:
        uploads: reports, in the order of arrival.
        records: the latest row of every id, by id; the caller stores them.
        superseded: accepted rows of earlier uploads that a later one replaced.
    """

    uploads: tuple[Upload, ...]
    records: RowWriter
    superseded: int

    @classmethod
    def of(cls, reports: Sequence[Upload], duplicates: Duplicates, records: RowWriter) -> Gathered:
        """Store the duplicates and put everything together.

        Args:
            reports: of :class:`fl_assets.site.upload_rows.UploadRows`, where duplicates count as
                accepted.
            duplicates: of all uploads.
            records: with all rows.
        """
        duplicates.store(refused_among(reports))
        uploads = []
        for number, report in enumerate(reports):
            double = duplicates.counts[number]
            counts = {"accepted": report.accepted - double, "duplicates": double}
            uploads.append(report.model_copy(update=counts))
        accepted = sum(upload.accepted for upload in uploads)
        return cls(tuple(uploads), records, accepted - records.rows)


def refused_among(reports: Sequence[Upload]) -> list[int]:
    """Return the numbers of the uploads that were refused."""
    return [number for number, report in enumerate(reports) if report.refused]


class Engine(Protocol):
    """What gathers uploads: this process, or a Spark cluster."""

    def __call__(
        self, store: SiteStore, spec: CohortSpec, infos: Sequence[ObjectInfo]
    ) -> AbstractContextManager[Gathered]:
        """Gather uploads, given oldest first.

        Quarantine and duplicates are stored under ``quarantine/``. The outcome is the same for
        every engine, to the byte.
        """


@contextmanager
def gather(store: SiteStore, spec: CohortSpec, infos: Sequence[ObjectInfo]) -> Iterator[Gathered]:
    """Gather uploads in this process (:class:`Engine`)."""
    with ExitStack() as stack:
        duplicates = stack.enter_context(Duplicates(store, spec, infos))
        runs = stack.enter_context(SortedRuns(spec.key_column, duplicates.take_out))
        records = stack.enter_context(RowWriter(store, stored_schema(spec)))
        erased = ErasedRows(store, spec)
        reports = []
        for number, info in enumerate(infos):
            upload = UploadRows(store, spec, info, number, erased)
            for rows in upload:
                runs.add(rows)
            reports.append(upload.report)
        refused = refused_among(reports)
        for rows in runs.merge():
            fit = duplicates.take_out(without(rows, refused))
            records.write(latest(fit, spec.key_column).select(spec.frame_columns))
        yield Gathered.of(reports, duplicates, records)

"""One upload on its way in: rows that fit are passed on, the others go into quarantine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import pandas as pd
import pyarrow as pa

from fl_assets.cohorts.contract import count_reasons
from fl_assets.cohorts.reader import LINE
from fl_assets.cohorts.screen import checked_batches, typed_schema
from fl_assets.cohorts.spec import CohortSpec
from fl_assets.errors import BadDataError
from fl_assets.site.erased_rows import ErasedRows
from fl_assets.site.rows import RowWriter
from fl_assets.site.uploads import INCOMING, Upload
from fl_assets.storage import ObjectInfo, SiteStore

QUARANTINE = "quarantine/"
UPLOAD = "_upload"
"""Column with the number of a row's upload, in the order of arrival."""


def aside_key(upload: str, name: str) -> str:
    """Return where the rows of an upload are that do not count."""
    return f"{QUARANTINE}{upload.removeprefix(INCOMING)}/{name}.parquet"


def stored_schema(spec: CohortSpec) -> pa.Schema:
    """Return the schema of records: that of typed rows, with categories spelt out."""
    fields = (typed_schema(spec).field(name) for name in spec.frame_columns)
    return pa.schema(
        pa.field(f.name, pa.string()) if pa.types.is_dictionary(f.type) else f for f in fields
    )


class UploadRows:
    """The rows of one upload that fit, read once, table by table.

    When all are read, ``report`` tells what became of the file, and its quarantine is stored. Where
    the report says that the file was refused, none of its rows count.

    Args:
        store: the hospital's.
        spec: the cohort.
        info: the upload.
        number: its place in the order of arrival.
        erased: patients whose rows are not let in.
    """

    def __init__(
        self, store: SiteStore, spec: CohortSpec, info: ObjectInfo, number: int, erased: ErasedRows
    ) -> None:
        self._store, self._spec, self._info, self._erased = store, spec, info, erased
        self.number = number
        self.report = Upload(key=info.key, version=info.version)

    def __iter__(self) -> Iterator[pa.Table]:
        """Yield typed rows with the columns ``_upload`` and ``_line`` before them."""
        try:
            yield from self._rows()
        except BadDataError as error:
            self.report = Upload(key=self._info.key, version=self._info.version, refused=str(error))

    def _rows(self) -> Iterator[pa.Table]:
        fit = 0
        reasons: Counter[str] = Counter()
        with self._store.open(self._info.key, self._info.version) as stream, ExitStack() as stack:
            aside: RowWriter | None = None
            for batch in checked_batches(stream, self._spec, self._info.key):
                batch = self._erased.set_aside(batch)
                reasons.update(count_reasons(batch.quarantine))
                if len(batch.quarantine):
                    rows = _raw_table(batch.quarantine)
                    aside = aside or stack.enter_context(RowWriter(self._store, rows.schema))
                    aside.write(rows)
                fit += len(batch.fit)
                number = pa.repeat(pa.scalar(self.number, pa.int32()), len(batch.fit))
                yield batch.fit.add_column(0, UPLOAD, number)
            if aside is not None:
                aside.store(aside_key(self._info.key, "rows"))
            held = aside.rows if aside else 0
        self.report = Upload(
            key=self._info.key,
            version=self._info.version,
            rows_in=fit + held,
            accepted=fit,
            quarantined=held,
            reasons=dict(reasons.most_common()),
        )


def _raw_table(frame: pd.DataFrame) -> pa.Table:
    kinds = [(name, pa.int64() if name == LINE else pa.string()) for name in frame.columns]
    return pa.Table.from_pandas(frame, pa.schema(kinds), preserve_index=False)

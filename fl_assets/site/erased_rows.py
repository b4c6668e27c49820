"""Keeping the rows of erased patients out of what is taken in."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pyarrow as pa

from fl_assets.cohorts.contract import REASON
from fl_assets.cohorts.reader import DELIMITERS, LINE, TEXT
from fl_assets.cohorts.screen import Batch
from fl_assets.cohorts.spec import CohortSpec
from fl_assets.site import erasure
from fl_assets.site.rows import site_key
from fl_assets.site.uploads import ERASED
from fl_assets.storage import SiteStore

_BETWEEN = re.compile(f"[{re.escape(DELIMITERS)}]")


class ErasedRows:
    """Sets the rows of a hospital's erased patients aside, without their content."""

    def __init__(self, store: SiteStore, spec: CohortSpec) -> None:
        self._key_column = spec.key_column
        self._erased = erasure.erased_ids(store)
        self._key = site_key(store)

    def set_aside(self, batch: Batch) -> Batch:
        """Return a batch without them among its rows, and with nothing but their lines aside."""
        if not self._erased:
            return batch
        mine = np.array([self._holds(i) for i in batch.fit[self._key_column].to_pylist()], bool)
        known = [self._concerns(row) for _, row in batch.quarantine.iterrows()]
        kept = batch.quarantine[~np.array(known, bool)]
        lines = [*batch.fit[LINE].filter(pa.array(mine)).to_pylist()]
        lines += batch.quarantine[LINE][known].tolist()
        blank = pd.DataFrame({LINE: lines, REASON: ERASED}, columns=list(kept), dtype=object)
        blank = blank.where(blank.notna(), None).astype({LINE: "int64"})
        aside = pd.concat([kept, blank]).sort_values(LINE, ignore_index=True)
        return Batch(batch.fit.filter(pa.array(~mine)), aside)

    def _holds(self, patient_id: str | None) -> bool:
        if patient_id is None:
            return False
        return erasure.fingerprint(self._key, patient_id) in self._erased

    def _concerns(self, row: pd.Series[str]) -> bool:
        """Tell whether a raw row may be of such a patient; a misshapen one has the id anywhere."""
        if row[TEXT] is None:
            return self._holds(row[self._key_column])
        return any(self._holds(field.strip()) for field in _BETWEEN.split(row[TEXT]))

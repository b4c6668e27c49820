"""Keys of rows in a cohort without ids."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fl_assets.cohorts.delimited import PROBLEM
from fl_assets.cohorts.spec import CohortSpec
from fl_assets.cohorts.spellings import UNKNOWN, Coding, plain

_BETWEEN = "\x1f"  # unit separator, between fields
_MISSING = UNKNOWN * 2


class RowIds:
    """Gives the rows of one file their keys, batch by batch.

    A key is a hash of all that a row holds, whatever its spelling, and for the k-th equal row of
    the file k: a file sent twice holds the same patients, and two patients alike within one stay
    two. Eight bytes are kept for each distinct row.
    """

    def __init__(self, spec: CohortSpec) -> None:
        self._codings = {name: spec.coding(name) for name in spec.file_columns}
        self._seen: NDArray[np.uint64] = np.empty(0, dtype=np.uint64)
        self._more: Counter[int] = Counter()

    def of(self, batch: pd.DataFrame) -> list[str | None]:
        """Return the keys of the next rows of the file, raw as the reader yields them.

        A row of the wrong shape has none.
        """
        columns = [
            _meanings(batch[name], coding)
            for name, coding in self._codings.items()
            if name in batch
        ]
        digests = [
            hashlib.blake2b(_BETWEEN.join(fields).encode(), digest_size=16).hexdigest()
            for fields in zip(*columns, strict=True)
        ]
        short = np.array([int(digest[:16], 16) for digest in digests], dtype=np.uint64)
        before = np.isin(short, self._seen)
        self._seen = np.union1d(self._seen, short)
        keys: list[str | None] = []
        fresh: set[int] = set()
        for digest, place, old, whole in zip(
            digests, short.tolist(), before, batch[PROBLEM].isna(), strict=True
        ):
            if old or place in fresh:
                self._more[place] += 1
            fresh.add(place)
            keys.append(f"{digest}-{1 + self._more[place]}" if whole else None)
        return keys


def _meanings(texts: pd.Series[str], coding: Coding) -> list[str]:
    known: dict[str | None, str] = {None: ""}
    for text in texts.dropna().unique():
        meaning = coding.canonical(text)
        if meaning is None:
            known[text] = _MISSING
        else:
            known[text] = text if meaning == UNKNOWN else plain(meaning)
    return [known[text] for text in texts]

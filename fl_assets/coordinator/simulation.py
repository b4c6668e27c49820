"""Simulation only: putting a hospital's share of a public data set where uploads arrive."""

from __future__ import annotations

import hashlib

import pandas as pd

from fl_assets.cohorts.spec import CohortSpec
from fl_assets.cohorts.writer import write_file
from fl_assets.site.intake import INCOMING
from fl_assets.storage import SiteStore

PREFIX = f"{INCOMING}simulated-"


def key_of(version: str) -> str:
    """Return where the rows of a version are put."""
    return f"{PREFIX}{version}.csv"


def upload(store: SiteStore, rows: pd.DataFrame, spec: CohortSpec) -> str:
    """Put rows into a simulated hospital's ``incoming/`` as a CSV and return their version.

    The object is named by its content, so dealing the same rows again leaves it alone; what an
    earlier simulation dealt is removed, since another data set's rows would mix with these.
    """
    data = write_file(rows, spec)
    version = hashlib.sha256(data).hexdigest()[:16]
    key = key_of(version)
    if not store.exists(key):
        store.put(key, data)
    for earlier in store.list(PREFIX):
        if earlier.key != key:
            store.delete(earlier.key)
    return version

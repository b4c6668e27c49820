"""The same intake on a local Spark session."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from fl_assets.cohorts.spec import CohortSpec
from fl_assets.cohorts.synthetic import generate
from fl_assets.consortium import IntakeRules
from fl_assets.site import erasure, rows
from fl_assets.site.gathering import gather
from fl_assets.site.intake import collect_records, load_intake
from fl_assets.site.uploads import ERASED
from fl_assets.storage import Access, FolderStore
from fl_assets_tests.site.conftest import store_with_key

pyspark = pytest.importorskip("pyspark", reason="pyspark is absent: install the extra `spark`")
pytestmark = pytest.mark.skipif(
    not (shutil.which("java") or os.environ.get("JAVA_HOME")), reason="Spark needs Java"
)


@pytest.fixture(scope="module")
def session() -> Iterator[Any]:
    from pyspark.sql import SparkSession

    os.environ |= {"PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
    session = (
        SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.shuffle.partitions", "3")
        # Or so few rows would be sorted in one partition.
        .config("spark.sql.adaptive.enabled", "false")
        .config("spark.log.level", "ERROR")
        .getOrCreate()
    )
    yield session
    session.stop()


def uploads(spec: CohortSpec) -> list[bytes]:
    text = generate(spec, 300, 5)
    frames = [
        pd.concat([text, text.iloc[:20].assign(age="41"), text.iloc[5:9].assign(age="x")]),
        text.iloc[50:150].assign(age="42"),
        pd.concat([text.iloc[200:], text.iloc[250:].assign(age="43")]),
    ]
    files = [frame.to_csv(index=False).encode() for frame in frames]
    # Rows of a file that turns out to be cut off do not count.
    return [*files, text.assign(age="44").to_csv(index=False).encode()[:-20]]


def filled(path: Path, spec: CohortSpec) -> FolderStore:
    store = store_with_key(path)
    for minute, data in enumerate(uploads(spec)):
        store.put(f"incoming/{minute}.csv", data)
        os.utime(path / f"incoming/{minute}.csv", (1_700_000_000 + 60 * minute,) * 2)
    gone = generate(spec, 300, 5).loc[7, "id"]
    mark = erasure.fingerprint(rows.site_key(store), gone)
    erasure.add_tombstone(store, mark, [], datetime(2026, 1, 1, tzinfo=UTC))
    return store


def test_spark_stores_the_same_bytes(session: Any, stroke: CohortSpec, tmp_path: Path) -> None:
    from fl_assets.site.spark import SparkEngine

    found = []
    rules = IntakeRules(max_quarantined=1)
    for name, engine in {"here": gather, "spark": SparkEngine(Access())}.items():
        store = filled(tmp_path / name, stroke)
        manifest = collect_records(store, stroke, rules, engine)
        kept = {
            info.key: store.get(info.key)
            for prefix in ("records/", "quarantine/")
            for info in store.list(prefix)
        }
        found.append((manifest, load_intake(store), kept))
    assert found[0] == found[1]
    manifest = found[0][0]
    assert manifest.counts.reconciled
    assert [upload.refused is None for upload in manifest.uploads] == [True, True, True, False]
    assert manifest.superseded > 100
    assert manifest.reasons == {"age: not a number": 3, ERASED: 3}
    # Nothing of it is left on the cluster.
    assert session.sparkContext._jsc.getPersistentRDDs().isEmpty()


def test_nothing_to_gather(session: Any, stroke: CohortSpec, tmp_path: Path) -> None:
    from fl_assets.site.intake import NoRecordsError
    from fl_assets.site.spark import SparkEngine

    with pytest.raises(NoRecordsError, match="no upload at all"):
        collect_records(store_with_key(tmp_path / "a"), stroke, engine=SparkEngine(Access()))

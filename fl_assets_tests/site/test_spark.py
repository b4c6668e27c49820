"""The same intake on a local Spark session."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from fl_assets.cohorts.spec import CohortSpec
from fl_assets.cohorts.synthetic import generate
from fl_assets.consortium import IntakeRules
from fl_assets.site import erasure, rows
from fl_assets.site.gathering import Engine, gather
from fl_assets.site.intake import collect_records, load_intake
from fl_assets.site.uploads import ERASED
from fl_assets.storage import Access, FolderStore
from fl_assets_tests.site.conftest import store_with_key

pyspark = pytest.importorskip("pyspark", reason="pyspark is absent: install the extra `spark`")
pytestmark = pytest.mark.skipif(
    not (shutil.which("java") or os.environ.get("JAVA_HOME")), reason="Spark needs Java"
)


CONFIGURATION = {
    "spark.ui.enabled": "false",
    "spark.sql.shuffle.partitions": "3",
    # Or so few rows would be sorted in one partition.
    "spark.sql.adaptive.enabled": "false",
    "spark.log.level": "ERROR",
}


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where Spark puts what it keeps; one Java process serves all sessions."""
    folder = tmp_path_factory.mktemp("scratch")
    options = " ".join(f"--conf {name}={value}" for name, value in CONFIGURATION.items())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        patch.setenv("PYSPARK_SUBMIT_ARGS", f"--master local[2] {options} pyspark-shell")
        patch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        patch.setenv("SPARK_LOCAL_DIRS", str(folder))
        yield folder


@pytest.fixture(scope="module")
def java_log(scratch: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the Java process says; it keeps the standard error that it is started with."""
    from pyspark import SparkContext

    log = tmp_path_factory.mktemp("java") / "java.log"
    ours = os.dup(2)
    with log.open("wb") as file:
        os.dup2(file.fileno(), 2)
        try:
            SparkContext._ensure_initialized()
        finally:
            os.dup2(ours, 2)
            os.close(ours)
    return log


@pytest.fixture(autouse=True)
def _started(java_log: Path) -> None:
    """Whichever test is first, the log is there."""


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
    gone = generate(spec, 300, 5)["id"].tolist()[7]
    mark = erasure.fingerprint(rows.site_key(store), gone)
    erasure.add_tombstone(store, mark, [], datetime(2026, 1, 1, tzinfo=UTC))
    return store


def test_spark_stores_the_same_bytes(scratch: Path, stroke: CohortSpec, tmp_path: Path) -> None:
    from fl_assets.site.spark import SparkEngine

    found = []
    rules = IntakeRules(max_quarantined=1)
    engines: dict[str, Engine] = {"here": gather, "spark": SparkEngine(Access())}
    for name, engine in engines.items():
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
    assert not rows_on(scratch)


def test_no_value_in_what_spark_says(
    scratch: Path, java_log: Path, stroke: CohortSpec, tmp_path: Path
) -> None:
    from fl_assets.site.spark import SparkEngine, SparkFailedError

    store = filled(tmp_path / "a", stroke)
    # A library quotes what it does not understand; our error of it does not.
    store.put("erased.json", b'{"canary-4711": 1}')
    reason = "UnreadableDocumentError"
    with pytest.raises(SparkFailedError, match=reason) as caught:
        collect_records(store, stroke, engine=SparkEngine(Access()))
    logged = java_log.read_text()
    assert reason in logged
    assert "canary" not in logged + "".join(traceback.format_exception(caught.value))
    assert not rows_on(scratch)


def test_nothing_to_gather(scratch: Path, stroke: CohortSpec, tmp_path: Path) -> None:
    from fl_assets.site.intake import NoRecordsError
    from fl_assets.site.spark import SparkEngine

    with pytest.raises(NoRecordsError, match="no upload at all"):
        collect_records(store_with_key(tmp_path / "a"), stroke, engine=SparkEngine(Access()))


def test_no_java(stroke: CohortSpec, tmp_path: Path) -> None:
    code = """
from pathlib import Path
import sys
from fl_assets.cohorts.spec import load_cohort
from fl_assets.site.spark import JavaMissingError, SparkEngine
from fl_assets.storage import Access, FolderStore
try:
    with SparkEngine(Access())(FolderStore(Path(sys.argv[1])), load_cohort("stroke"), []):
        pass
except JavaMissingError as error:
    print(error)
"""
    answer = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env=os.environ | {"JAVA_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "install Java 8, 11 or 17" in answer.stdout


def rows_on(scratch: Path) -> list[Path]:
    """Return the files that Spark has left."""
    return [path for path in scratch.rglob("*") if path.is_file()]

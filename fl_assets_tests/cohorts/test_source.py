from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path

import pandas as pd
import pytest

from fl_assets.cohorts.kaggle import KaggleCredentialsMissingError
from fl_assets.cohorts.source import NoKaggleSourceError, SourceFileError, fetch
from fl_assets.cohorts.spec import CohortSpec, load_cohort
from fl_assets.cohorts.synthetic import generate


@pytest.fixture(scope="module")
def stroke() -> CohortSpec:
    return load_cohort("stroke")


def test_a_local_file_arrives_byte_for_byte(tmp_path: Path, stroke: CohortSpec) -> None:
    path, data = tmp_path / "größe 1.csv", "id,age\r\n1,50\r\n".encode("utf-16")
    path.write_bytes(data)
    raw = fetch(str(path), stroke, rows=1, seed=0)
    assert (raw.name, raw.data, raw.origin) == ("größe 1.csv", data, str(path))
    assert raw.sha256 == hashlib.sha256(data).hexdigest()


def test_a_raw_file_prints_without_its_rows(tmp_path: Path, stroke: CohortSpec) -> None:
    (tmp_path / "a.csv").write_bytes(b"id,age\n1,50\n")
    assert "1,50" not in repr(fetch(str(tmp_path / "a.csv"), stroke, rows=1, seed=0))


def test_no_such_file(tmp_path: Path, stroke: CohortSpec) -> None:
    with pytest.raises(SourceFileError, match=r"absent\.csv.*No such file.*synthetic, kaggle or"):
        fetch(str(tmp_path / "absent.csv"), stroke, rows=1, seed=0)


def test_a_folder_is_no_file(tmp_path: Path, stroke: CohortSpec) -> None:
    with pytest.raises(SourceFileError, match="is a folder"):
        fetch(str(tmp_path), stroke, rows=1, seed=0)


def test_an_empty_file(tmp_path: Path, stroke: CohortSpec) -> None:
    (tmp_path / "empty.csv").touch()
    with pytest.raises(SourceFileError, match=r"empty\.csv is empty"):
        fetch(str(tmp_path / "empty.csv"), stroke, rows=1, seed=0)


def test_synthetic_rows_are_the_generators(stroke: CohortSpec) -> None:
    raw = fetch("synthetic", stroke, rows=40, seed=3)
    assert raw.name == "stroke-synthetic.csv"
    assert raw.origin == "synthetic generator, 40 rows, seed 3"
    assert raw.data.count(b"\n") == 41
    assert b"\r" not in raw.data
    read = pd.read_csv(io.BytesIO(raw.data), dtype=str, keep_default_na=False)
    pd.testing.assert_frame_equal(read, generate(stroke, 40, 3), check_dtype=False)
    assert fetch("synthetic", stroke, rows=40, seed=3).sha256 == raw.sha256
    assert fetch("synthetic", stroke, rows=40, seed=4).sha256 != raw.sha256


def test_kaggle_needs_a_source_in_the_spec(stroke: CohortSpec) -> None:
    unlisted = stroke.model_copy(update={"kaggle": None})
    with pytest.raises(NoKaggleSourceError, match=r"stroke.*DATA=synthetic"):
        fetch("kaggle", unlisted, rows=1, seed=0)


def test_kaggle_needs_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stroke: CohortSpec
) -> None:
    for name in [name for name in os.environ if name.startswith("KAGGLE")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path))
    with pytest.raises(KaggleCredentialsMissingError):
        fetch("kaggle", stroke, rows=1, seed=0)

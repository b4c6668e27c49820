"""Uploaded Parquet files."""

from __future__ import annotations

import datetime
import io
from decimal import Decimal
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fl_assets.cohorts.contract import check_rows
from fl_assets.cohorts.formats import EncodingError
from fl_assets.cohorts.parquet import NotFlatError, ParquetText
from fl_assets.cohorts.reader import LINE, read_batches, read_rows
from fl_assets.cohorts.spec import CohortSpec
from fl_assets.cohorts.synthetic import generate


def parquet(table: pa.Table, **options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **options)
    return buffer.getvalue()


def test_every_type_is_text_as_in_a_csv() -> None:
    table = pa.table(
        {
            "whole": pa.array([1, None, -3], pa.int64()),
            "small": pa.array([1, None, 255], pa.uint8()),
            "float": pa.array([63.0, float("nan"), 0.1], pa.float64()),
            "single": pa.array([0.5, None, 2.0], pa.float32()),
            "truth": pa.array([True, None, False]),
            "text": pa.array([" a ", None, "b"]),
            "long": pa.array(["x", None, "y"], pa.large_string()),
            "few": pa.array(["m", None, "m"]).dictionary_encode(),
            "money": pa.array([Decimal("1.50"), None, Decimal("2.00")]),
            "day": pa.array([datetime.date(2024, 2, 29), None, datetime.date(1999, 1, 1)]),
        }
    )
    (batch,) = ParquetText(io.BytesIO(parquet(table)), "upload", missing="?").batches(10)
    assert batch == {
        "whole": ["1", "?", "-3"],
        "small": ["1", "?", "255"],
        "float": ["63", "?", "0.1"],
        "single": ["0.5", "?", "2"],
        "truth": ["1", "?", "0"],
        "text": ["a", "?", "b"],
        "long": ["x", "?", "y"],
        "few": ["m", "?", "m"],
        "money": ["1.50", "?", "2.00"],
        "day": ["2024-02-29", "?", "1999-01-01"],
    }


def test_the_same_patients_as_in_a_csv(stroke: CohortSpec) -> None:
    text = generate(stroke, 300, 3)
    csv = check_rows(read_rows(text.to_csv(index=False).encode(), stroke, "a.csv"), stroke)
    typed = text.assign(
        id=text["id"].astype(float),
        age=text["age"].astype(float),
        hypertension=text["hypertension"] == "1",
        bmi=pd.to_numeric(text["bmi"], errors="coerce"),
        stroke=text["stroke"].astype("int8"),
        work_type=text["work_type"].astype("category"),
    )
    turned = typed[list(reversed(list(typed)))]
    data = parquet(pa.Table.from_pandas(turned, preserve_index=False), row_group_size=70)
    raw = read_rows(data, stroke, "a.parquet")
    assert raw[LINE].tolist() == list(range(1, 301))
    pd.testing.assert_frame_equal(check_rows(raw, stroke).accepted, csv.accepted)
    batches = list(read_batches(io.BytesIO(data), stroke, "a.parquet", rows=64))
    assert [len(batch) for batch in batches] == [64, 64, 64, 64, 44]
    pd.testing.assert_frame_equal(pd.concat(batches, ignore_index=True), raw)


@pytest.mark.parametrize(
    "values",
    [[[1, 2]], [{"a": 1}], [b"bytes"]],
    ids=["list", "struct", "binary"],
)
def test_what_is_no_single_field_is_refused(values: list[Any]) -> None:
    table = ParquetText(io.BytesIO(parquet(pa.table({"x": values}))), "upload", missing="")
    with pytest.raises(NotFlatError, match="upload: column 1 is of type"):
        list(table.batches(5))


def test_a_nul_is_refused_as_in_text() -> None:
    table = ParquetText(io.BytesIO(parquet(pa.table({"x": ["a\0b"]}))), "upload", missing="")
    with pytest.raises(EncodingError, match="NUL"):
        list(table.batches(5))


class _Broken(io.BytesIO):
    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() < 100:
            raise ConnectionResetError(104, "reset")
        return super().read(size)


@pytest.mark.faults
def test_a_fault_of_the_network_is_not_called_damage() -> None:
    data = parquet(pa.table({"x": list(range(100_000))}), compression="none")
    table = ParquetText(_Broken(data), "upload", missing="")
    with pytest.raises(ConnectionResetError):
        list(table.batches(50_000))

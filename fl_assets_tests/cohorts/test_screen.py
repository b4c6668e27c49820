"""The fast path against the contract alone, which is the authority on every row."""

from __future__ import annotations

import gzip
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_assets.cohorts import contract, formats, screen
from fl_assets.cohorts.contract import REASON, judge_rows
from fl_assets.cohorts.reader import LINE, read_batches, read_rows
from fl_assets.cohorts.screen import Screen, checked_batches, typed_schema
from fl_assets.cohorts.spec import CohortSpec, load_cohort
from fl_assets.cohorts.synthetic import generate
from fl_assets.errors import BadDataError
from fl_assets_tests.damage import EDITS, REFUSED, Edit, as_file, damaged, good_lines

Outcome = tuple[pd.DataFrame, pd.DataFrame] | str


def by_contract(data: bytes, spec: CohortSpec) -> Outcome:
    """What the contract alone makes of a file: rows that fit, quarantine; or why it is refused."""
    try:
        raw = read_rows(data, spec, "upload")
    except BadDataError as error:
        return f"{type(error).__name__}: {error}"
    fit, quarantine = judge_rows(raw, spec)
    fit.insert(0, LINE, raw[LINE][fit.index])
    return fit.reset_index(drop=True), quarantine


def by_screen(data: bytes, spec: CohortSpec) -> Outcome:
    try:
        batches = list(checked_batches(io.BytesIO(data), spec, "upload"))
    except BadDataError as error:
        return f"{type(error).__name__}: {error}"
    fit = pa.concat_tables([batch.fit for batch in batches])
    assert fit.schema == typed_schema(spec)
    frame = fit.to_pandas().astype(dict.fromkeys(texts(spec), object))
    quarantine = pd.concat([b.quarantine for b in batches], ignore_index=True)
    return frame.where(frame.notna(), np.nan), quarantine


def texts(spec: CohortSpec) -> list[str]:
    return [c.name for c in spec.columns if c.kind == "category"]


def check(data: bytes, spec: CohortSpec) -> Outcome:
    expected, found = by_contract(data, spec), by_screen(data, spec)
    if isinstance(expected, str) or isinstance(found, str):
        assert found == expected
        return found
    fit = expected[0].where(expected[0].notna(), np.nan)
    pd.testing.assert_frame_equal(found[0], fit, check_dtype=False)
    assert {c: str(t) for c, t in found[0].dtypes.items()} == {
        c: str(t) for c, t in fit.dtypes.items()
    }
    # A frame without rows has no types to speak of.
    pd.testing.assert_frame_equal(found[1], expected[1], check_dtype=bool(len(expected[1])))
    return found


@pytest.fixture(scope="module")
def lines(stroke: CohortSpec) -> list[str]:
    return good_lines(stroke, 30, 4)


@settings(max_examples=40, deadline=None)
@given(edits=EDITS, end=st.sampled_from(["\n", "\r\n"]), quoted=st.booleans())
def test_damaged_rows(
    stroke: CohortSpec, lines: list[str], edits: list[Edit], end: str, quoted: bool
) -> None:
    edited = damaged(lines, edits)
    if quoted:
        edited = [",".join(f'"{field}"' for field in line.split(",")) for line in edited]
    check(as_file(edited, end), stroke)


@pytest.mark.parametrize("case", REFUSED)
def test_refused_files(case: str, stroke: CohortSpec) -> None:
    data = REFUSED[case][0](good_lines(stroke))
    assert isinstance(check(data, stroke), str)


SPELLINGS = [
    *[
        "1",
        "1.0",
        "01",
        "+1",
        "1e0",
        "1e2",
        " 1 ",
        "\u00a01",
        "1_0",
        "0x1",
        "1,5",
        "true",
        "0",
        "-0",
    ],
    *[
        "",
        " ",
        "N/A",
        "NaN",
        "nan",
        "NA",
        "n/a",
        "inf",
        "-inf",
        "1e400",
        "None",
        "99999999999999999",
    ],
    *[
        "Male",
        "male",
        " Male",
        "Yes",
        "yes",
        "Never_worked",
        "\u00e9",
        "\x0b3",
        "45.300000000000004",
    ],
    *[
        "120",
        "120.0000001",
        "0",
        "-0.0",
        "700",
        "19.999999999999999",
        "0.1",
        "1.7976931348623157e308",
    ],
]


def with_each(lines: Sequence[str], values: Sequence[str]) -> list[str]:
    """Lines where each value stands once in each column."""
    made = [lines[0]]
    width = len(lines[0].split(","))
    for number, value in enumerate(values):
        for place in range(width):
            fields = lines[1 + number % (len(lines) - 1)].split(",")
            fields[0] = str(number * width + place)
            fields[place] = value
            made.append(",".join(fields))
    return made


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_spellings(delimiter: str, stroke: CohortSpec, lines: list[str]) -> None:
    values = [value for value in SPELLINGS if "," not in value or delimiter != ","]
    made = [line.replace(",", delimiter) for line in with_each(lines, values)]
    found = check(as_file(made), stroke)
    assert not isinstance(found, str)
    # Both ways were taken: some odd spellings fit, some do not.
    assert len(found[0]) > 100
    assert len(found[1]) > 100


def test_decimals_are_the_same_to_the_last_bit(stroke: CohortSpec) -> None:
    rng = np.random.default_rng(5)
    frame = generate(stroke, 3000, 5)
    frame["age"] = [
        f"{x:.{k}f}" for x, k in zip(rng.random(3000) * 120, rng.integers(0, 20, 3000), strict=True)
    ]
    frame["avg_glucose_level"] = [repr(x) for x in (20 + rng.random(3000) * 600).tolist()]
    found = check(frame.to_csv(index=False).encode(), stroke)
    assert not isinstance(found, str)
    assert len(found[0]) > 2900


CODED = """
name: coded
title: A cohort with codes
id_column: patient
label: {column: sick, prevalence: 0.2, positive: [ill, 2], negative: [well, 1]}
missing_markers: ["", "?", -9]
age_column: years
columns:
  - kind: number
    name: years
    range: [-50, 120]
    nullable: true
    missing_markers: [999]
    public: {low: 0, high: 100, center: 50, scale: 25, fill: 50}
    bins: [-50, 0, 60, 120]
  - {kind: flag, name: smokes, positive: [y], negative: [n], nullable: true}
  - {kind: flag, name: drinks}
  - {kind: category, name: season, categories: [cold, warm], codes: {1: cold, 2: warm},
     reference: cold, nullable: true}
groups: {all: [years, smokes, drinks, season]}
"""


@pytest.mark.parametrize("id_column", ["patient", None])
def test_codes_and_markers(id_column: str | None, tmp_path: Path) -> None:
    """Also in a cohort without ids, where the fast path gets the reader's rows."""
    text = CODED if id_column else CODED.replace("id_column: patient", "id_column: null")
    (tmp_path / "coded.yaml").write_text(text)
    spec = load_cohort("coded.yaml", tmp_path)
    good = ["p", "40", "y", "1", "1", "ill"]
    values = [
        "?",
        "-9",
        "-9.0",
        "-09",
        "9",
        "999",
        "999.",
        "9.99e2",
        "",
        "y",
        "n",
        "1",
        "1.0",
        "2",
        "x",
    ]
    header = ["patient", "years", "smokes", "drinks", "season", "sick"]
    rows = [header]
    for number, value in enumerate(values):
        for place in range(len(header)):
            row = [f"p{number}-{place}", *good[1:]]
            row[place] = value
            rows.append(row)
    first = 0 if id_column else 1
    found = check(as_file([",".join(row[first:]) for row in rows]), spec)
    assert not isinstance(found, str)
    assert len(found[0]) > 30
    assert len(found[1]) > 20


def test_quotes_that_are_not_needed_do_not_slow_it_down(
    stroke: CohortSpec, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    quoted = as_file([",".join(f'"{field}"' for field in line.split(",")) for line in lines])
    expected = check(quoted, stroke)
    monkeypatch.setattr(Screen, "frame", None)
    found = by_screen(quoted, stroke)
    assert not isinstance(found, str)
    assert not isinstance(expected, str)
    pd.testing.assert_frame_equal(found[0], expected[0])


@pytest.mark.parametrize(
    "field",
    ['"a,b"', '"a""b"', '"a\nb"', 'a"b', '"a" ', ' "a"', '""', '"', '"a\n","b"', '","', '"a"\n"b"'],
    ids=range(11),
)
def test_quotes(field: str, stroke: CohortSpec, lines: list[str]) -> None:
    for place in (0, 1, 10, 11):
        fields = lines[3].split(",")
        fields[place] = field
        check(as_file([*lines[:3], ",".join(fields), *lines[4:]]), stroke)


def test_what_the_contract_would_accept_alone_is_what_it_is_asked_about(
    stroke: CohortSpec, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file without a fault never wakes pandera."""
    monkeypatch.setattr(contract, "build_schema", None)
    found = by_screen(as_file(lines), stroke)
    assert not isinstance(found, str)
    assert len(found[0]) == 30


def test_blocks_and_batches_leave_no_trace(
    stroke: CohortSpec, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = as_file(with_each(lines, ["x", "1e0", "45", "a;b"]), "\r\n")
    whole = check(made, stroke)
    monkeypatch.setattr(formats, "CHUNK", 200)
    monkeypatch.setattr(screen, "_BATCH", 10)
    batches = list(checked_batches(io.BytesIO(made), stroke, "upload"))
    assert len(batches) > 3
    assert not isinstance(whole, str)
    pd.testing.assert_frame_equal(
        pd.concat([batch.quarantine for batch in batches], ignore_index=True), whole[1]
    )
    assert pa.concat_tables([b.fit for b in batches])[LINE].to_pylist() == whole[0][LINE].tolist()


def test_a_fault_at_the_end_comes_after_rows(
    stroke: CohortSpec, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "CHUNK", 200)
    monkeypatch.setattr(screen, "_BATCH", 5)
    batches = checked_batches(io.BytesIO(as_file(lines)[:-10]), stroke, "upload")
    assert len(next(batches).fit) > 0
    with pytest.raises(BadDataError, match="ends inside the row that starts in line 31"):
        list(batches)


@pytest.mark.parametrize("kind", ["gzip", "parquet", "utf-16", "windows-1252"])
def test_other_formats(kind: str, stroke: CohortSpec, lines: list[str]) -> None:
    lines = [*lines[:5], lines[5].replace(lines[5].split(",")[0], "M\u00fcller"), *lines[6:]]
    text = "\n".join(lines) + "\n"
    match kind:
        case "gzip":
            data = gzip.compress(text.encode())
        case "parquet":
            stream = io.BytesIO()
            pd.read_csv(io.StringIO(text), dtype=str).to_parquet(stream)
            data = stream.getvalue()
        case _:
            data = text.encode("utf-16" if kind == "utf-16" else "cp1252")
    found = check(data, stroke)
    assert not isinstance(found, str)
    assert len(found[0]) == 30


def test_reasons_stay_in_the_frame_when_nothing_is_held_back(stroke: CohortSpec) -> None:
    (batch,) = checked_batches(io.BytesIO(as_file(good_lines(stroke))), stroke, "upload")
    raw = next(read_batches(io.BytesIO(as_file(good_lines(stroke))), stroke, "upload"))
    assert list(batch.quarantine) == [*raw, REASON]
    assert len(batch.quarantine) == 0


@pytest.mark.real_data
def test_the_public_file(stroke: CohortSpec, stroke_csv: Path) -> None:
    found = check(stroke_csv.read_bytes(), stroke)
    assert not isinstance(found, str)
    assert len(found[0]) == 5110

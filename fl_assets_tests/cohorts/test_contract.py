from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fl_assets.cohorts.contract import (
    REASON,
    Checked,
    Counts,
    build_schema,
    check_rows,
    count_reasons,
)
from fl_assets.cohorts.reader import LINE, read_rows
from fl_assets.cohorts.spec import CohortSpec
from fl_assets.cohorts.synthetic import generate
from fl_assets.errors import BadDataError
from fl_assets_tests.cohorts.heart import heart
from fl_assets_tests.damage import EDITS, Edit, as_file, damaged, good_lines, is_row, replaced


@pytest.fixture(scope="module")
def text(stroke: CohortSpec) -> pd.DataFrame:
    """Text rows that all fit."""
    return generate(stroke, 8, 3)


@pytest.fixture(scope="module")
def lines(stroke: CohortSpec) -> list[str]:
    return good_lines(stroke, 15, 5)


def check(data: bytes, spec: CohortSpec) -> Checked:
    checked = check_rows(read_rows(data, spec, "upload.csv"), spec)
    assert checked.counts.reconciled
    return checked


def test_types_of_accepted_rows(stroke: CohortSpec, text: pd.DataFrame) -> None:
    accepted = check(text.to_csv(index=False).encode(), stroke).accepted
    assert list(accepted) == stroke.file_columns
    assert accepted.dtypes.astype(str).to_dict() == {
        "id": "object",
        "gender": "object",
        "age": "float64",
        "hypertension": "int8",
        "heart_disease": "int8",
        "ever_married": "object",
        "work_type": "object",
        "Residence_type": "object",
        "avg_glucose_level": "float64",
        "bmi": "float64",
        "smoking_status": "object",
        "stroke": "int8",
    }
    assert accepted["age"].tolist() == [float(age) for age in text["age"]]
    assert accepted["id"].tolist() == text["id"].tolist()


def test_a_nullable_flag_or_category(asthma: CohortSpec) -> None:
    columns = [
        column.model_copy(update={"nullable": True}) if column.kind != "number" else column
        for column in asthma.columns
    ]
    spec = asthma.model_copy(update={"columns": tuple(columns)})
    file = b"patient,years,allergy,season,peak_flow,attack\n1,5,,?,?,0\n2,6,1,winter,400,1\n"
    accepted = check(file, spec).accepted
    assert accepted["allergy"].dtype == np.float64
    assert accepted.isna().sum().to_dict() == {
        "patient": 0,
        "years": 0,
        "allergy": 1,
        "season": 1,
        "peak_flow": 1,
        "attack": 0,
    }


@pytest.mark.parametrize("marker", ["", "N/A", "NA", "NaN", "  N/A  "])
def test_missing_markers(marker: str, stroke: CohortSpec, text: pd.DataFrame) -> None:
    accepted = check(replaced(text, 0, "bmi", marker), stroke).accepted
    assert np.isnan(accepted.loc[0, "bmi"])


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("age", "old", "age: not a number"),
        ("age", "", "age: missing"),
        ("age", "N/A", "age: missing"),
        ("age", "-1", "age: outside 0 to 120"),
        ("age", "120.01", "age: outside 0 to 120"),
        ("age", "inf", "age: not a number"),
        ("age", "nan", "age: not a number"),
        ("age", "1e400", "age: not a number"),
        ("age", "0x20", "age: not a number"),
        ("age", "True", "age: not a number"),
        ("age", "1,5", "age: decimal comma"),
        ("bmi", "7.99", "bmi: outside 8 to 120"),
        ("bmi", "unknown", "bmi: not a number"),
        ("avg_glucose_level", "1000", "avg_glucose_level: outside 20 to 700"),
        ("gender", "male", "gender: not an allowed category"),
        ("gender", "", "gender: missing"),
        ("work_type", "Private\nPrivate", "work_type: not an allowed category"),
        ("hypertension", "2", "hypertension: neither 0 nor 1"),
        ("hypertension", "0.5", "hypertension: neither 0 nor 1"),
        ("hypertension", "yes", "hypertension: not a number"),
        ("heart_disease", "", "heart_disease: missing"),
        ("stroke", "2", "stroke: neither 0 nor 1"),
        ("stroke", "", "stroke: missing"),
        ("id", "", "id: missing"),
    ],
)
def test_a_field_that_does_not_fit(
    column: str, value: str, reason: str, stroke: CohortSpec, text: pd.DataFrame
) -> None:
    checked = check(replaced(text, 3, column, value), stroke)
    assert checked.counts == Counts(rows_in=8, accepted=7, quarantined=1, duplicates=0)
    assert checked.reasons == {reason: 1}
    held = checked.quarantine.iloc[0]
    assert held[LINE] == 5
    # The raw text, for whoever mends it.
    assert held[stroke.file_columns].tolist() == [
        value.strip() if name == column else text.loc[3, name] for name in stroke.file_columns
    ]


@pytest.mark.parametrize("value", ["0", "120", "0.08", "1e2", "+5", "5."])
def test_bounds_and_spellings_that_fit(value: str, stroke: CohortSpec, text: pd.DataFrame) -> None:
    accepted = check(replaced(text, 0, "age", value), stroke).accepted
    assert accepted.loc[0, "age"] == float(value)


def test_every_reason_of_a_row(stroke: CohortSpec, text: pd.DataFrame) -> None:
    changed = text.copy()
    changed.loc[2, ["age", "gender", "stroke"]] = ["200", "?", ""]
    changed.loc[4, "age"] = "200"
    checked = check(changed.to_csv(index=False).encode(), stroke)
    assert checked.quarantine[REASON].tolist() == [
        "age: outside 0 to 120; gender: not an allowed category; stroke: missing",
        "age: outside 0 to 120",
    ]
    assert checked.reasons == {
        "age: outside 0 to 120": 2,
        "gender: not an allowed category": 1,
        "stroke: missing": 1,
    }
    assert count_reasons(checked.quarantine) == checked.reasons


def test_a_second_delimiter_in_some_rows(stroke: CohortSpec, text: pd.DataFrame) -> None:
    lines = text.to_csv(index=False).splitlines()
    lines[2] = lines[2].replace(",", ";")
    checked = check(as_file(lines), stroke)
    assert checked.counts == Counts(8, 7, 1, 0)
    assert checked.reasons == {"1 fields where the header has 12": 1}
    assert checked.quarantine["_text"].tolist() == [lines[2]]


def test_a_semicolon_file_with_decimal_commas(stroke: CohortSpec, text: pd.DataFrame) -> None:
    checked = check(text.to_csv(index=False, sep=";").encode(), stroke)
    assert checked.counts == Counts(8, 8, 0, 0)
    commas = text.assign(avg_glucose_level="106,5").to_csv(index=False, sep=";").encode()
    assert check(commas, stroke).reasons == {"avg_glucose_level: decimal comma": 8}


def test_an_identical_row_twice(stroke: CohortSpec, text: pd.DataFrame) -> None:
    checked = check(pd.concat([text, text.iloc[:3]]).to_csv(index=False).encode(), stroke)
    assert checked.counts == Counts(rows_in=11, accepted=8, quarantined=0, duplicates=3)
    assert checked.duplicates["id"].tolist() == text["id"].tolist()[:3]
    assert checked.duplicates[LINE].tolist() == [2, 3, 4]


def test_of_conflicting_rows_the_last_counts(stroke: CohortSpec, text: pd.DataFrame) -> None:
    first = text.loc[0, "id"]
    younger, older = text.iloc[[0]].assign(age="30"), text.iloc[[0]].assign(age="31")
    checked = check(pd.concat([younger, text, older]).to_csv(index=False).encode(), stroke)
    assert checked.counts == Counts(rows_in=10, accepted=8, quarantined=0, duplicates=2)
    accepted = checked.accepted.set_index("id")["age"]
    assert accepted[first] == 31.0
    assert checked.duplicates["age"].tolist() == ["30", text.loc[0, "age"]]


def test_a_bad_row_supersedes_nothing(stroke: CohortSpec, text: pd.DataFrame) -> None:
    bad = text.iloc[[0]].assign(age="999")
    checked = check(pd.concat([text, bad]).to_csv(index=False).encode(), stroke)
    assert checked.counts == Counts(rows_in=9, accepted=8, quarantined=1, duplicates=0)
    assert checked.accepted.loc[0, "age"] == float(text.loc[0, "age"])


def test_ids_are_text(stroke: CohortSpec, text: pd.DataFrame) -> None:
    numbered = text.assign(id=["1", "01", "1.0", "A-1", "a-1", "ä", "1 ", "１"])
    accepted = check(numbered.to_csv(index=False).encode(), stroke).accepted
    # Only "1" and "1 " are the same patient.
    assert accepted["id"].tolist() == ["01", "1.0", "A-1", "a-1", "ä", "1", "１"]


def test_nothing_fits(stroke: CohortSpec, text: pd.DataFrame) -> None:
    lines = text.to_csv(index=False).splitlines()
    misshapen = check(as_file([lines[0], *[line + ",x" for line in lines[1:]]]), stroke)
    assert misshapen.counts == Counts(8, 0, 8, 0)
    unfit = check(text.assign(age="x").to_csv(index=False).encode(), stroke)
    assert unfit.counts == Counts(8, 0, 8, 0)
    good = check(text.to_csv(index=False).encode(), stroke)
    assert unfit.accepted.dtypes.equals(good.accepted.dtypes)


@pytest.mark.parametrize("canary", ["canary", "98765.43", "-98765.43", "2", '"can,ary"', "can;ary"])
def test_a_reason_is_a_column_and_a_rule(canary: str, stroke: CohortSpec, lines: list[str]) -> None:
    rules = {
        "missing",
        "not a number",
        "not an allowed category",
        "neither 0 nor 1",
        "outside 0 to 120",
        "outside 20 to 700",
        "outside 8 to 120",
    }
    changed = lines[:13]
    for place in range(12):
        fields = changed[place + 1].split(",")
        fields[place] = canary
        changed[place + 1] = ",".join(fields)
    checked = check(as_file(changed), stroke)
    # An id may be anything, and 2 is a good age.
    assert checked.counts.quarantined == {"2": 10}.get(canary, 11)
    assert set(checked.reasons) <= {f"{name}: {r}" for name in stroke.file_columns for r in rules}
    for line, column in enumerate(stroke.file_columns, 2):
        held = checked.quarantine[checked.quarantine[LINE] == line]
        assert held[column].tolist() in ([], [canary.strip('"')])


def test_a_misshapen_row_is_not_quoted(stroke: CohortSpec, lines: list[str]) -> None:
    row = ",".join(f"canary{place}" for place in range(13))
    checked = check(as_file([*lines, row]), stroke)
    assert checked.reasons == {"13 fields where the header has 12": 1}
    assert checked.quarantine["_text"].tolist() == [row]


def test_the_schema_is_the_specs(stroke: CohortSpec) -> None:
    schema = build_schema(stroke)
    assert list(schema.columns) == stroke.file_columns
    assert [name for name, column in schema.columns.items() if column.nullable] == ["bmi"]


def test_counts_that_do_not_add_up() -> None:
    assert Counts(10, 7, 2, 1).reconciled
    assert not Counts(10, 7, 2, 0).reconciled


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(edits=EDITS, end=st.sampled_from(["\n", "\r\n"]), cut=st.integers(0, 9))
def test_every_row_of_a_damaged_file_is_somewhere(
    stroke: CohortSpec,
    lines: list[str],
    edits: list[Edit],
    end: str,
    cut: int,
) -> None:
    edited = damaged(lines, edits)
    data = as_file(edited, end)
    filled = [line for line in edited[1:] if is_row(line)]
    try:
        checked = check_rows(read_rows(data[: len(data) - cut], stroke, "upload.csv"), stroke)
    except BadDataError:
        # Only a cut may break the whole of such a file, unless no row is left.
        assert cut or not filled
        return
    assert abs(checked.counts.rows_in - len(filled)) <= (1 if cut else 0)
    assert checked.counts.reconciled
    assert checked.accepted["id"].is_unique
    aside = [*checked.quarantine[LINE], *checked.duplicates[LINE]]
    assert len(set(aside)) == len(aside)
    assert set(checked.duplicates["id"]) <= set(checked.accepted["id"])
    assert all(checked.quarantine[REASON])


@pytest.mark.real_data
def test_the_public_file(stroke: CohortSpec, stroke_csv: Path) -> None:
    checked = check(stroke_csv.read_bytes(), stroke)
    assert checked.counts == Counts(5110, 5110, 0, 0)
    assert int(checked.accepted["stroke"].sum()) == 249
    assert int(checked.accepted["bmi"].isna().sum()) == 201


def test_the_lines_behind_a_reason_are_known(stroke: CohortSpec) -> None:
    frame = generate(stroke, 20, seed=3)
    frame.loc[[4, 9], "avg_glucose_level"] = "101,5"
    frame.loc[5, "avg_glucose_level"] = "x"
    checked = check(frame.to_csv(index=False, sep=";").encode(), stroke)
    assert checked.lines("avg_glucose_level: decimal comma") == [6, 11]
    assert checked.lines("avg_glucose_level: not a number") == [7]


def test_codes_and_missing_markers_of_another_cohort() -> None:
    spec = heart()
    lines = [
        "63,1,1,145,0,?,2,150,0,2.3,3,0,6,0",
        "67,1,4,160,286,0,2,108,1,1.5,2,3,7.0,3",
        "41,0,9,130,204,0,2,172,0,1.4,1,0,3,0",
        "41,2,2,130,204,0,2,172,0,1.4,1,0,3,0",
        "41,1,2,130,204,0,2,172,0,1.4,1,0,3,7",
        "41,1,2,130,204,0,2,172,0,1.4,1,0,3,?",
    ]
    checked = check_rows(read_rows("\n".join(lines).encode(), spec, "upload"), spec)
    accepted = checked.accepted
    assert accepted["num"].tolist() == [0, 1]
    assert accepted["num"].dtype == "int8"
    assert accepted["cp"].tolist() == ["typical angina", "asymptomatic"]
    assert accepted["thal"].tolist() == ["fixed defect", "reversible defect"]
    assert accepted["chol"].isna().tolist() == [True, False]
    assert accepted["fbs"].isna().tolist() == [True, False]
    assert checked.quarantine["_reason"].tolist() == [
        "cp: not an allowed category",
        "sex: neither 0 nor 1",
        "num: not a known code",
        "num: missing",
    ]
    # What the hospital sent, not what it means.
    assert checked.quarantine["cp"].tolist() == ["9", "2", "2", "2"]

"""Codes and missing markers."""

from __future__ import annotations

from decimal import Decimal

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_assets.cohorts.spec import CohortSpec
from fl_assets.cohorts.spellings import UNKNOWN, plain
from fl_assets_tests.cohorts.heart import heart


@pytest.fixture(scope="module")
def spec() -> CohortSpec:
    return heart()


@pytest.mark.parametrize("text", ["1", "01", "1.0", "1.", "+1", "+001.000"])
def test_one_number_has_one_plain_spelling(text: str) -> None:
    assert plain(text) == "1"


@pytest.mark.parametrize("text", ["", ".", "-", "+.", "1e3", "1,0", "a1", "0x1", " 1", "\u0661"])
def test_what_is_no_decimal_number_stays(text: str) -> None:
    assert plain(text) == text


@given(st.from_regex(r"[-+]?[0-9]{1,8}(\.[0-9]{0,6})?", fullmatch=True))
def test_a_plain_spelling_is_the_same_number(text: str) -> None:
    short = plain(text)
    assert Decimal(short) == Decimal(text)
    assert plain(short) == short
    assert len(short) <= len(text)


@given(st.decimals(-99, 99, places=3), st.decimals(-99, 99, places=3))
def test_equal_numbers_are_equal_and_others_are_not(a: Decimal, b: Decimal) -> None:
    assert (plain(f"{a:f}") == plain(f"{b:f}0")) == (a == b)


@pytest.mark.parametrize(
    ("column", "text", "meaning"),
    [
        ("cp", "1", "typical angina"),
        ("cp", "4.0", "asymptomatic"),
        ("cp", "asymptomatic", "asymptomatic"),
        ("cp", "5", UNKNOWN),
        ("thal", "?", None),
        ("num", "3", "1"),
        ("num", "0.0", "0"),
        ("num", "5", UNKNOWN),
        ("chol", "0", None),
        ("chol", "0.0", None),
        ("trestbps", "0", "0"),
        ("sex", "1", "1"),
        ("sex", "M", "M"),
    ],
)
def test_the_meaning_of_a_field(
    spec: CohortSpec, column: str, text: str, meaning: str | None
) -> None:
    assert spec.canonical(column, text) == meaning


def test_a_column_at_once(spec: CohortSpec) -> None:
    texts = pd.Series(["1", None, "?", "7", "asymptomatic"], index=[4, 3, 9, 1, 0])
    found = spec.coding("cp").apply(texts)
    assert found.tolist() == ["typical angina", None, None, UNKNOWN, "asymptomatic"]
    assert found.index.tolist() == [4, 3, 9, 1, 0]
    empty = spec.coding("cp").apply(pd.Series([], dtype=object))
    assert empty.dtype == object

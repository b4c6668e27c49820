from __future__ import annotations

from collections.abc import Callable

import pytest

from fl_assets.doctor.checks import (
    Check,
    Finding,
    NotCheckedError,
    ProblemError,
    Verdict,
    examine,
    exit_code,
)


def raising(error: Exception) -> Callable[[], str]:
    def look() -> str:
        raise error

    return look


def test_what_is_right_needs_no_cure() -> None:
    assert examine(Check("disk", lambda: "it is there", "Buy one.")) == Finding(
        "disk", Verdict.PASSED, "it is there"
    )


def test_a_problem_comes_with_its_cause_and_cure() -> None:
    found = examine(Check("disk", raising(ProblemError("it is full")), "Buy one."))

    assert found == Finding("disk", Verdict.PROBLEM, "it is full", "Buy one.")


def test_what_cannot_be_seen_is_no_problem() -> None:
    found = examine(Check("disk", raising(NotCheckedError("no right to look")), "Buy one."))

    assert found == Finding("disk", Verdict.NOT_CHECKED, "no right to look")


def test_an_error_that_nobody_foresaw_is_named_without_its_text() -> None:
    found = examine(Check("disk", raising(ValueError("hunter2")), "Buy one."))

    assert found.verdict == Verdict.BROKEN
    assert found.found.startswith("ValueError at ")
    assert "hunter2" not in repr(found)


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        ([Verdict.PASSED, Verdict.NOT_CHECKED], 0),
        ([Verdict.PASSED, Verdict.PROBLEM, Verdict.BROKEN], 1),
        ([Verdict.PASSED, Verdict.BROKEN], 2),
    ],
)
def test_exit_codes(verdicts: list[Verdict], code: int) -> None:
    assert exit_code([Finding("x", verdict, "") for verdict in verdicts]) == code

"""The budget plot: it draws whatever a ledger can hold."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from fl_assets.reporting.images import colour
from fl_assets.reporting.privacy_plots import Point, budget_over_time
from fl_assets_tests.reporting.conftest import Shot

START = datetime(2026, 1, 1, tzinfo=UTC)
Look = Callable[[bytes], Shot]


def points(*values: float) -> list[Point]:
    return [(START + timedelta(days=9 * k), value) for k, value in enumerate(values)]


def plot(spent: list[Point], refused: list[Point], cap: float = 3.0) -> bytes:
    return budget_over_time(spent, refused, cap, 1e-5, "hospital-a")


@pytest.mark.parametrize(
    ("spent", "refused"),
    [
        (points(1.0, 1.5, 1.2, 2.9), points(3.4)),
        (points(1.0), []),
        ([], points(400.0)),
        ([], []),
        ([(START, 1.0)] * 3, []),
    ],
    ids=["a life", "one entry", "a refusal alone", "none", "all at once"],
)
def test_any_ledger(look: Look, spent: list[Point], refused: list[Point]) -> None:
    shot = look(plot(spent, refused))
    # The cap is always there.
    assert shot.count(colour(1)) > 300
    assert (shot.count(colour(0)) > 100) == bool(spent)


def test_what_was_charged_and_what_was_refused_is_seen(look: Look) -> None:
    spent = points(1.0, 2.0)
    assert plot(spent, []) != plot(points(1.0, 2.2), [])
    assert plot(spent, []) == plot(spent, [])
    refused = look(plot(spent, points(3.5, 3.6, 3.7))).count(colour(1))
    assert refused > look(plot(spent, [])).count(colour(1)) + 50


def test_a_budget_that_was_lowered_below_what_is_spent(look: Look) -> None:
    """The line stays in the picture above the cap."""
    low, high = (look(plot(points(1.0, 2.0), [], cap)).count(colour(0)) for cap in (0.5, 3.0))
    assert low == pytest.approx(high, rel=0.5)

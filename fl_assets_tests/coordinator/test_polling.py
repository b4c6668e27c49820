"""Asking many: one that hangs or fails holds up no other."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event

import pytest

from fl_assets.coordinator.polling import poll
from fl_assets.errors import FlAssetsError


@pytest.fixture
def never() -> Iterator[Event]:
    """An event that comes at the end of the test, so that no thread outlives it."""
    event = Event()
    yield event
    event.set()


def test_one_that_hangs_is_named_and_the_others_answer(never: Event) -> None:
    def ask(name: str) -> str:
        if name == "hangs":
            never.wait()
        if name == "fails":
            raise FlAssetsError("no bucket")
        return name.upper()

    found = poll(["hangs", "fails", "a", "b"], ask, 0.3, workers=2)

    assert found.answers == {"a": "A", "b": "B"}
    assert found.failures == {
        "hangs": "it did not answer within 0.3 s",
        "fails": "FlAssetsError: no bucket",
    }
    assert found.not_asked == []


def test_those_for_whom_no_time_was_left_are_listed_in_order(never: Event) -> None:
    def ask(name: str) -> bool:
        return never.wait()

    found = poll(["a", "b", "c", "d"], ask, 0.1, workers=2)

    assert set(found.failures) == {"a", "b"}
    assert found.not_asked == ["c", "d"]


def test_an_error_of_the_program_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        poll(["a"], lambda _: 1 / 0, 5)


def test_nobody_to_ask_is_no_error() -> None:
    assert poll([], lambda _: 1, 5).answers == {}

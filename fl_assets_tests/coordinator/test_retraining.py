"""When a recipe is trained anew, and what a person is told until then."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fl_assets.consortium import RetrainingPolicy
from fl_assets.coordinator.readiness import HospitalState
from fl_assets.coordinator.retraining import Allowance, Trained, Verdict, decide
from fl_assets.errors import FlAssetsError
from fl_assets.federation.recipe import Recipe
from fl_assets.learning.configs import LogisticRegressionConfig
from fl_assets.privacy.configs import PrivacyConfig

NOW = datetime(2027, 1, 31, tzinfo=UTC)
PLAIN = Recipe(name="plain", model=LogisticRegressionConfig())
PRIVATE = PLAIN.model_copy(update={"name": "dp", "privacy": PrivacyConfig(epsilon=1.0)})
A, B = HospitalState("a1", 100), HospitalState("b1", 100)
ABSENT = HospitalState(hold="it has no partitions yet")
BLOCKED = HospitalState("b1", 100, hold="1 of its uploads block its records")
LOST = HospitalState(hold="TimeoutError: no answer", reachable=False)


def verdict(
    a: HospitalState = A,
    b: HospitalState = B,
    recipe: Recipe = PLAIN,
    left: float = 3.0,
    unprotected: bool = True,
    days: float | None = None,
    trained: bool = True,
) -> Verdict:
    """Ask about hospitals of which each had 100 training rows at the last model, 10 days ago."""
    last = Trained(recipe.hash, {"a": "a1", "b": "b1"}, {"a": 100, "b": 100}, NOW - timedelta(10))
    return decide(
        RetrainingPolicy(min_new_rows=0.1, max_age_days=days),
        recipe,
        {"a": a, "b": b},
        last if trained else None,
        {"a": Allowance(lambda: 3.0, True), "b": Allowance(lambda: left, unprotected)},
        NOW,
    )


def more(rows: int) -> HospitalState:
    return HospitalState("b2", rows)


CASES: dict[str, tuple[dict[str, Any], bool, str]] = {
    "never trained": ({"trained": False}, True, "plain is due: it has no model yet"),
    "nothing new": (
        {},
        False,
        "plain waits: 0 % new rows of 10 %, nothing has changed since its last model",
    ),
    "just too few": ({"b": more(119)}, False, "plain waits: 9.5 % new rows of 10 %"),
    "enough": ({"b": more(120)}, True, "plain is due: 10 % new rows of 10 %"),
    "what one lost makes up for nothing": (
        {"a": HospitalState("a2", 20), "b": more(120)},
        True,
        "plain is due: 10 % new rows of 10 %",
    ),
    "corrected and young": (
        {"b": more(100), "days": 11},
        False,
        "plain waits: 0 % new rows of 10 %, its model is 10.0 days old of 11",
    ),
    "corrected and old": (
        {"b": more(100), "days": 10},
        True,
        "plain is due: 0 % new rows of 10 %, its model is 10.0 days old of 10",
    ),
    "old, and nothing has changed": (
        {"days": 1},
        False,
        "plain waits: 0 % new rows of 10 %, nothing has changed since its last model",
    ),
    "one has left": (
        {"b": ABSENT, "days": 1},
        True,
        "plain is due: 0 % new rows of 10 %, its model is 10.0 days old of 1",
    ),
    "one is blocked": (
        {"a": HospitalState("a2", 200), "b": BLOCKED},
        False,
        "plain waits: 50 % new rows of 10 %; 1 of 2 hospitals are ready "
        "(b: 1 of its uploads block its records)",
    ),
    "one is blocked and the quorum is enough": (
        {
            "a": HospitalState("a2", 200),
            "b": BLOCKED,
            "recipe": PLAIN.model_copy(update={"quorum": 1}),
        },
        True,
        "plain is due: 50 % new rows of 10 %",
    ),
    "one cannot be reached": (
        {"a": HospitalState("a2", 200), "b": LOST},
        False,
        "plain waits: 50 % new rows of 10 %; b cannot be looked at: TimeoutError: no answer",
    ),
    "nobody has data": (
        {"a": ABSENT, "b": ABSENT, "trained": False},
        False,
        "plain waits: it has no model yet; 0 of 1 hospitals are ready "
        "(a: it has no partitions yet; b: it has no partitions yet)",
    ),
    "budget left": (
        {"b": more(150), "recipe": PRIVATE, "left": 1.0},
        True,
        "dp is due: 25 % new rows of 10 %",
    ),
    "budget short": (
        {"b": more(150), "recipe": PRIVATE, "left": 0.6299},
        False,
        "dp waits: 25 % new rows of 10 %; b has 0.62 left of the 1.00 it asks for",
    ),
    "no run without privacy": (
        {"b": more(150), "unprotected": False},
        False,
        "plain waits: 25 % new rows of 10 %; no training without privacy may run at b",
    ),
    "privacy where nothing else may run": (
        {"b": more(150), "recipe": PRIVATE, "unprotected": False},
        True,
        "dp is due: 25 % new rows of 10 %",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_policy(case: str) -> None:
    given, train, why = CASES[case]
    found = verdict(**given)
    assert (found.train, found.why) == (train, why)


def test_a_ledger_that_cannot_be_read_holds_back_who_would_spend_from_it_alone() -> None:
    def damaged() -> float:
        raise FlAssetsError("entry 3 was edited")

    def judged(recipe: Recipe) -> Verdict:
        allowances = {"a": Allowance(damaged, True)}
        return decide(RetrainingPolicy(), recipe, {"a": A}, None, allowances, NOW)

    assert judged(PLAIN).train
    assert judged(PRIVATE).why == (
        "dp waits: it has no model yet; the ledger of a cannot be read: entry 3 was edited"
    )
    assert not judged(PRIVATE).train


def test_the_key_follows_the_data_and_the_recipe_and_nothing_else() -> None:
    same = {verdict().key, verdict(days=1).key, verdict(b=BLOCKED).key}
    assert len(same) == 1
    other = PLAIN.model_copy(update={"rounds": 3})
    assert len(same | {verdict(b=more(120)).key, verdict(recipe=other).key}) == 3


def test_no_ledger_is_read_before_the_data_call_for_a_training() -> None:
    def never() -> float:
        raise AssertionError("the ledger was read")

    policy, allowances = RetrainingPolicy(), {"a": Allowance(never, False)}
    last = Trained(PRIVATE.hash, {"a": "a1"}, {"a": 100}, NOW)
    assert not decide(policy, PRIVATE, {"a": A}, last, allowances, NOW).train

"""Whether new data call for a new training of a recipe, and why not yet."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from fl_assets.consortium import RetrainingPolicy
from fl_assets.coordinator.readiness import HospitalState
from fl_assets.errors import FlAssetsError
from fl_assets.federation.recipe import Recipe
from fl_assets.privacy.ledger import ROUNDING
from fl_assets.privacy.ledger_entries import rounded_down


@dataclass(frozen=True)
class Trained:
    """What the last model of a recipe was made of.

    Attributes:
        recipe: hash of the recipe at that time.
        versions, rows: of the partitions and of their training part, by hospital.
        when: it was registered.
    """

    recipe: str
    versions: Mapping[str, str]
    rows: Mapping[str, int]
    when: datetime


@dataclass(frozen=True)
class Allowance:
    """What a hospital lets a training cost.

    Attributes:
        left: epsilon that one more run may ask for; reads the hospital's ledger.
        unprotected: whether it lets a run without privacy through.
    """

    left: Callable[[], float]
    unprotected: bool


@dataclass(frozen=True)
class Verdict:
    """Whether to train a recipe now.

    Attributes:
        recipe: name.
        train: the answer.
        why: with the figures, for people.
        key: names what would be trained on: the same key asks for the same training.
    """

    recipe: str
    train: bool
    why: str
    key: str


def decide(
    policy: RetrainingPolicy,
    recipe: Recipe,
    hospitals: Mapping[str, HospitalState],
    trained: Trained | None,
    allowances: Mapping[str, Allowance],
    now: datetime,
) -> Verdict:
    """Decide whether a recipe is trained anew; reserves nothing.

    The data are asked first, then whether enough hospitals are ready, then the budgets, whose
    reading is the dearest.

    Args:
        policy: of the consortium.
        recipe: to train.
        hospitals: where the data of each stand.
        trained: its last model, None if there is none.
        allowances: of each hospital.
        now: the time.
    """
    present = {name: state for name, state in hospitals.items() if state.partitions is not None}
    versions = {name: str(state.partitions) for name, state in present.items()}
    called, why = _call(policy, recipe, present, versions, trained, now)
    hold = None
    if called:
        hold = _unready(recipe, hospitals, present) or _unpaid(recipe, present, allowances)
    if hold:
        why = f"{why}; {hold}"
    train = called and hold is None
    told = f"{recipe.name} {'is due' if train else 'waits'}: {why}"
    return Verdict(recipe.name, train, told, _key(recipe, versions))


def _call(
    policy: RetrainingPolicy,
    recipe: Recipe,
    present: Mapping[str, HospitalState],
    versions: Mapping[str, str],
    trained: Trained | None,
    now: datetime,
) -> tuple[bool, str]:
    """Whether the data call for a training, and the figures."""
    if trained is None:
        return True, "it has no model yet"
    more = sum(max(0, s.rows - trained.rows.get(name, 0)) for name, s in present.items())
    share = more / max(1, sum(trained.rows.values()))
    # Rounded down, or a share just below the bound would look like the bound.
    figures = f"{math.floor(share * 1000) / 10:g} % new rows of {policy.min_new_rows * 100:g} %"
    if share >= policy.min_new_rows:
        return True, figures
    if (versions, recipe.hash) == (dict(trained.versions), trained.recipe):
        return False, f"{figures}, nothing has changed since its last model"
    if policy.max_age_days is None:
        return False, figures
    age = now - trained.when
    told = f"{figures}, its model is {age / timedelta(days=1):.1f} days old of "
    return age >= timedelta(days=policy.max_age_days), f"{told}{policy.max_age_days:g}"


def _unready(
    recipe: Recipe, hospitals: Mapping[str, HospitalState], present: Mapping[str, HospitalState]
) -> str | None:
    lost = [name for name, state in hospitals.items() if not state.reachable]
    if lost:
        return "; ".join(f"{name} cannot be looked at: {hospitals[name].hold}" for name in lost)
    # As in a round: without a quorum all that are asked must answer.
    needed = max(1, recipe.quorum or len(present))
    ready = [name for name, state in present.items() if state.hold is None]
    if len(ready) >= needed:
        return None
    holds = "; ".join(f"{name}: {s.hold}" for name, s in hospitals.items() if s.hold is not None)
    return f"{len(ready)} of {needed} hospitals are ready ({holds or 'there is none'})"


def _unpaid(
    recipe: Recipe, present: Mapping[str, HospitalState], allowances: Mapping[str, Allowance]
) -> str | None:
    if recipe.privacy is None:
        refusing = [name for name in present if not allowances[name].unprotected]
        if refusing:
            return f"no training without privacy may run at {', '.join(refusing)}"
        return None
    asked = recipe.privacy.epsilon
    short = []
    for name in present:
        try:
            left = allowances[name].left()
        except FlAssetsError as error:
            # It holds back what would spend from it, and no other recipe.
            short.append(f"the ledger of {name} cannot be read: {error}")
            continue
        if left + ROUNDING < asked:
            short.append(f"{name} has {rounded_down(left)} left of the {asked:.2f} it asks for")
    return "; ".join(short) or None


def _key(recipe: Recipe, versions: Mapping[str, str]) -> str:
    text = json.dumps([recipe.hash, sorted(versions.items())])
    return f"{recipe.name}:{hashlib.sha256(text.encode()).hexdigest()[:16]}"

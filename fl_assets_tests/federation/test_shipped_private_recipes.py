"""The epsilon of every shipped private recipe, by somebody else's accountants."""

from __future__ import annotations

from pathlib import Path

import pytest
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant

from fl_assets.federation.recipe import load_recipe, recipe_names
from fl_assets.privacy.accounting import epsilon, epsilon_rdp, noise_multiplier
from fl_assets.privacy.events import MechanismEvent

SHIPPED = Path(__file__).resolve().parents[2] / "recipes"
RECIPES = [load_recipe(SHIPPED / f"{name}.yaml") for name in recipe_names(SHIPPED)]
PRIVATE = {recipe.name: recipe for recipe in RECIPES if recipe.privacy is not None}


def test_the_recipes_of_the_plan_are_there() -> None:
    epsilons = {r.privacy.epsilon for n, r in PRIVATE.items() if n.startswith("dp-lr-eps")}
    assert epsilons == {0.5, 1.0, 3.0, 8.0}
    assert PRIVATE["dp-mlp-eps3"].model.kind == "mlp"


@pytest.mark.parametrize("name", PRIVATE)
def test_a_recipes_epsilon_is_what_google_finds(name: str) -> None:
    recipe = PRIVATE[name]
    asked = recipe.privacy
    steps = recipe.rounds * asked.steps
    sigma = noise_multiplier(asked.epsilon, asked.delta, asked.sampling_rate, steps)
    event = MechanismEvent(noise_multiplier=sigma, sampling_rate=asked.sampling_rate, steps=steps)
    found = epsilon([event], asked.delta)
    assert found <= asked.epsilon
    assert found == pytest.approx(asked.epsilon, rel=1e-3)

    step = GaussianDpEvent(sigma)
    if asked.sampling_rate < 1:
        step = PoissonSampledDpEvent(asked.sampling_rate, step)
    by_rdp = RdpAccountant().compose(step, steps).get_epsilon(asked.delta)
    assert epsilon_rdp([event], asked.delta) == pytest.approx(by_rdp, rel=0.01)
    by_pld = PLDAccountant().compose(step, steps).get_epsilon(asked.delta)
    assert found == pytest.approx(by_pld, rel=0.01)

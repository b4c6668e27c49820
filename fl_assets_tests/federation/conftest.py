"""Jobs over the small world."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fl_assets.federation.job import FederationJob
from fl_assets.federation.recipe import Recipe
from fl_assets.learning.features import Preprocessor
from fl_assets.settings import Settings

MakeJob = Callable[..., FederationJob]


@pytest.fixture
def make_job(world: Settings) -> MakeJob:
    """Return a job over the world's hospitals; keywords change the recipe."""

    def make(run: str = "run", settings: Settings = world, **recipe: Any) -> FederationJob:
        asked = {
            "name": "small",
            "model": {"kind": "logistic_regression"},
            "optimizer": {"kind": "sgd", "lr": 0.03, "momentum": 0.9},
            "rounds": 2,
        }
        return FederationJob(
            run=run,
            recipe=Recipe.model_validate(asked | recipe),
            preprocessor=Preprocessor.public(settings.cohort),
            sites={n: settings.site_uri(n) for n in settings.consortium.hospital_names},
            output=settings.coordinator_uri,
            budgets=settings.consortium.budgets,
        )

    return make

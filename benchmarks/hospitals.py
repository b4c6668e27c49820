"""Hospitals with their rows in stores, and jobs over them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.setting import RECIPES, Setting, deal_folds, unlimited, write_sites
from fl_assets.consortium import Consortium
from fl_assets.federation.job import FederationJob
from fl_assets.federation.recipe import Recipe, load_recipe
from fl_assets.learning.features import Preprocessor
from fl_assets.site.partitions import write_partitions
from fl_assets.storage import SiteStore, open_store

FOLDS, SEED = 5, 0

PARTS = np.array(["train", "train", "validation", "train", "test"])
"""Of a virtual hospital's rows, again and again."""


class Hospitals:
    """Hospitals whose rows are in stores, and a coordinator.

    Args:
        setting: whose cohort it is.
        stores: by hospital.
        output: URI of the coordinator's store.
    """

    def __init__(self, setting: Setting, stores: Mapping[str, SiteStore], output: str) -> None:
        self.preprocessor = Preprocessor.public(setting.spec)
        self.stores = dict(stores)
        self._output = output
        self._runs = 0

    @classmethod
    def of_consortium(cls, setting: Setting, home: Path) -> Hospitals:
        """Return those of consortium.yaml, with the first fold's rows."""
        stores = write_sites(setting, next(deal_folds(setting, FOLDS, SEED)), home / "sites")
        return cls(setting, stores, (home / "coordinator").as_uri())

    @classmethod
    def virtual(
        cls, setting: Setting, number: int, home: Path, rows: int | None = None
    ) -> Hospitals:
        """Return a number of hospitals, to which the shuffled rows are dealt like cards.

        Args:
            setting: with the rows.
            number: of hospitals.
            home: an empty folder.
            rows: of each hospital; an equal share of all if None.
        """
        order = np.random.default_rng(SEED).permutation(len(setting.rows))
        names = virtual_consortium(setting.consortium, number).hospital_names
        stores = {}
        for place, name in enumerate(names):
            own = setting.rows.iloc[order[place::number][:rows]]
            stores[name] = open_store((home / "sites" / name).as_uri())
            write_partitions(
                stores[name], own, np.resize(PARTS, len(own)), setting.spec, "benchmark"
            )
        return cls(setting, stores, (home / "coordinator").as_uri())

    def job(self, recipe: Recipe) -> FederationJob:
        """Return a job over all of them, under a name of its own."""
        self._runs += 1
        return FederationJob(
            run=f"benchmark-{self._runs}",
            recipe=recipe,
            preprocessor=self.preprocessor,
            sites={name: store.uri for name, store in self.stores.items()},
            output=self._output,
            budgets=unlimited(self.stores),
        )


def virtual_consortium(consortium: Consortium, number: int) -> Consortium:
    """Return a consortium with so many virtual hospitals in place of its own."""
    return Consortium.model_validate(consortium.model_dump() | {"hospitals": number})


def recipe_with(name: str, **changes: Any) -> Recipe:
    """Return a shipped recipe with changes."""
    return Recipe.model_validate(load_recipe(RECIPES / f"{name}.yaml").model_dump() | changes)

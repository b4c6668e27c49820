"""All models side by side: references, centralised, each hospital alone, federated."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Literal

from fl_assets.config import StrictModel
from fl_assets.coordinator import documents
from fl_assets.coordinator.baselines import SEED, load_centralised
from fl_assets.coordinator.evaluation import (
    ModelEvaluation,
    evaluate_simulated,
    evaluation_key,
    load_evaluation,
)
from fl_assets.coordinator.training import ready_sites
from fl_assets.federation.recipe import recipe_names
from fl_assets.learning.features import Preprocessor
from fl_assets.settings import Settings
from fl_assets.site.evaluation import SiteEvaluation, fit_local
from fl_assets.site.pooling import simulated_stores
from fl_assets.storage import SiteStore

KEY = "comparison/current.json"
Kind = Literal["reference", "centralised", "local", "federated"]
_REFERENCES = {"majority_class", "age_only"}


class ComparedModel(StrictModel):
    """A row of the comparison: a model, what kind it is, how it does."""

    kind: Kind
    evaluation: ModelEvaluation


class Comparison(StrictModel):
    """Every model that was evaluated, references first.

    Attributes:
        cohort: name of the cohort.
        hospitals: names, in the order of the consortium.
        models: rows.
        left_out: models whose figures are of other test rows than the current ones.
    """

    cohort: str
    hospitals: tuple[str, ...]
    models: tuple[ComparedModel, ...]
    left_out: tuple[str, ...] = ()

    @property
    def version(self) -> str:
        """Content hash, 16 hex digits."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]

    def of_kind(self, kind: Kind) -> list[ComparedModel]:
        """Return the rows of a kind, in order."""
        return [model for model in self.models if model.kind == kind]


def local_key(hospital: str) -> str:
    """Where a hospital's own baseline evaluation is in the coordinator's store."""
    return f"baselines/local/{hospital}.json"


def compare(settings: Settings) -> Comparison:
    """Collect what was evaluated on the current test rows into one comparison and store it."""
    current = {name: manifest.version for name, manifest in ready_sites(settings).items()}
    models = [*_centralised(settings), *_local(settings), *_federated(settings)]
    same_rows = [
        all(current.get(n) == s.partitions for n, s in m.evaluation.sites.items()) for m in models
    ]
    found = Comparison(
        cohort=settings.cohort.name,
        hospitals=tuple(settings.consortium.hospital_names),
        models=tuple(m for m, same in zip(models, same_rows, strict=True) if same),
        left_out=tuple(
            m.evaluation.model for m, same in zip(models, same_rows, strict=True) if not same
        ),
    )
    documents.save(settings.coordinator_store(), KEY, found)
    return found


def load_comparison(store: SiteStore) -> Comparison:
    """Return the stored comparison.

    Raises:
        ObjectNotFoundError: nothing was compared yet.
    """
    return documents.load(store, KEY, Comparison)


def _centralised(settings: Settings) -> Iterator[ComparedModel]:
    if settings.consortium.simulated:
        for name, baseline in load_centralised(settings.coordinator_store()).models.items():
            kind: Kind = "reference" if name in _REFERENCES else "centralised"
            yield ComparedModel(kind=kind, evaluation=baseline.evaluation)


def _local(settings: Settings) -> Iterator[ComparedModel]:
    """What each hospital reaches alone.

    In a simulation its model is fitted again and shown to all hospitals' test rows; a real
    hospital's own model stays at home and has figures there alone.
    """
    preprocessor = Preprocessor.public(settings.cohort)
    for name in ready_sites(settings):
        if settings.consortium.simulated:
            store = simulated_stores(settings, [name])[name]
            alone = fit_local(store, preprocessor, SEED)
            if alone is None:
                continue
            evaluation = evaluate_simulated(
                settings,
                f"{name} alone",
                preprocessor,
                alone.scores,
                threshold=None,
                run="model_comparison",
            )
        else:
            if not settings.coordinator_store().exists(local_key(name)):
                continue
            own = documents.load(settings.coordinator_store(), local_key(name), SiteEvaluation)
            evaluation = ModelEvaluation(model=f"{name} alone", sites={name: own}, pooled=None)
        yield ComparedModel(kind="local", evaluation=evaluation)


def _federated(settings: Settings) -> Iterator[ComparedModel]:
    store = settings.coordinator_store()
    for name in recipe_names(settings.recipes):
        if store.exists(evaluation_key(name)):
            yield ComparedModel(kind="federated", evaluation=load_evaluation(store, name))

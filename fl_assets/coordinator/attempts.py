"""Names of runs: by what goes into a run, and for a private one by its attempt as well."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping

from fl_assets.config import StrictModel
from fl_assets.coordinator import documents
from fl_assets.federation.recipe import Recipe
from fl_assets.learning.features import Preprocessor
from fl_assets.site.partitions import PartitionManifest
from fl_assets.storage import ObjectNotFoundError, SiteStore

# Of what a run computes from the same inputs; part of the run's name.
_CODE_VERSION = "1"


class Attempt(StrictModel):
    """The run that a private recipe's inputs stand for at present."""

    run: str


def run_name(
    store: SiteStore,
    recipe: Recipe,
    preprocessor: Preprocessor,
    sites: Mapping[str, PartitionManifest],
) -> str:
    """Return the name of the run of these inputs, which may be to come, under way or finished."""
    name = _name(recipe, preprocessor, sites)
    try:
        return documents.load(store, _key(name), Attempt).run
    except ObjectNotFoundError:
        return name


def new_run_name(
    store: SiteStore,
    recipe: Recipe,
    preprocessor: Preprocessor,
    sites: Mapping[str, PartitionManifest],
    token: str | None,
) -> str:
    """Return the name for training the inputs anew.

    A private run that begins again draws new noise and is charged again, so it has a name of its
    own in the hospitals' ledgers. A run without privacy gives the same weights under its old name.

    Args:
        store: the coordinator's.
        recipe, preprocessor, sites: what goes into the run.
        token: of whoever asks, the same when it asks again after a failure; a fresh one if None.
    """
    name = _name(recipe, preprocessor, sites)
    if recipe.privacy is None:
        return name
    run = f"{name}-{(token or uuid.uuid4().hex)[:8]}"
    save_attempt(store, recipe, preprocessor, sites, run)
    return run


def save_attempt(
    store: SiteStore,
    recipe: Recipe,
    preprocessor: Preprocessor,
    sites: Mapping[str, PartitionManifest],
    run: str,
) -> None:
    """Make a run the one that a recipe's inputs stand for."""
    documents.save(store, _key(_name(recipe, preprocessor, sites)), Attempt(run=run))


def _key(name: str) -> str:
    return f"attempts/{name}.json"


def _name(
    recipe: Recipe, preprocessor: Preprocessor, sites: Mapping[str, PartitionManifest]
) -> str:
    versions = {name: manifest.version for name, manifest in sorted(sites.items())}
    inputs = json.dumps([_CODE_VERSION, recipe.hash, preprocessor.version, versions])
    return f"{recipe.name}-{hashlib.sha256(inputs.encode()).hexdigest()[:10]}"

"""What happened at a hospital without Dagster: new uploads, or steps of its own process."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg

from fl_assets.coordinator.chain import CHAIN, RECORDS, Seen, current_version
from fl_assets.defs.materialisations import VERSION, newest, tags_of
from fl_assets.errors import FlAssetsError
from fl_assets.settings import Settings
from fl_assets.storage import SiteStore

if TYPE_CHECKING:
    from fl_assets.privacy.ledger_entries import LedgerHead

UPLOADS, LEDGER, EGRESS = "hospital_uploads", "privacy_ledger", "egress_log"


def moved_on(instance: dg.DagsterInstance, settings: Settings, asset: str, hospital: str) -> bool:
    """Tell whether Dagster's record of a hospital's asset is behind what is in its store.

    So it is after an upload, after ``python -m fl_assets.site``, after ``fla delete-data``, and for
    the two logs after every training: the asset is there in another version than the one Dagster
    saw last, or not any more.
    """
    if asset not in (UPLOADS, LEDGER, EGRESS, *CHAIN):
        return False
    store = settings.listing_store(hospital)
    if asset == RECORDS and _has_new_uploads(store):
        return True
    known = seen(instance, asset, hospital).version
    if asset == UPLOADS:
        return not _is_dealt(store, str(known))
    return _version(store, asset, hospital) != known


def inputs_changed(settings: Settings, asset: str, partition: str | None) -> bool:
    """Tell whether an asset would be made of something else now, where Dagster cannot know.

    A hospital that withdrew takes its partition away, which changes no version of what is left.
    And of a private recipe whose new training was cut off Dagster knows the failure alone.
    """
    try:
        return asset in _INPUTS and _INPUTS[asset](settings, str(partition))
    except FlAssetsError:
        # Its own step says what is wrong.
        return False


def _other_training(settings: Settings, recipe: str) -> bool:
    from fl_assets.coordinator.training import is_current, load_release
    from fl_assets.federation.recipe import load_recipe

    release = load_release(settings.coordinator_store(), recipe)
    return not is_current(settings, load_recipe(settings.recipes / f"{recipe}.yaml"), release)


def _other_profiles(settings: Settings, _: str) -> bool:
    from fl_assets.coordinator.preprocessors import load_preprocessors
    from fl_assets.coordinator.training import ready_sites

    built = load_preprocessors(settings.coordinator_store())
    return built.profiles.keys() != ready_sites(settings).keys()


def _other_rows(settings: Settings, _: str) -> bool:
    from fl_assets.coordinator.baselines import load_centralised
    from fl_assets.coordinator.training import ready_sites

    models = load_centralised(settings.coordinator_store()).models.values()
    present = ready_sites(settings).keys()
    return any(model.evaluation.sites.keys() != present for model in models)


_INPUTS = {
    "federated_model": _other_training,
    "preprocessor": _other_profiles,
    "centralized_baseline": _other_rows,
}


def ledger_version(head: LedgerHead | None) -> str:
    """Return the version of a ledger, which its newest entry stands for."""
    return "empty" if head is None else head.digest[:16]


def _ledger_version(store: SiteStore, hospital: str) -> str:
    from fl_assets.privacy.ledger import Ledger
    from fl_assets.privacy.ledger_chain import LedgerDamagedError

    try:
        return ledger_version(Ledger(store, hospital).head())
    except LedgerDamagedError:
        # The asset has more to say of it.
        return "damaged"


def _is_dealt(store: SiteStore, version: str) -> bool:
    from fl_assets.coordinator.simulation import key_of

    key = key_of(version)
    return any(info.key == key for info in store.list(key))


def _has_new_uploads(store: SiteStore) -> bool:
    from fl_assets.site.intake import new_uploads

    return bool(new_uploads(store))


def _version(store: SiteStore, asset: str, hospital: str) -> str | None:
    from fl_assets.site.egress import EgressLog

    if asset == LEDGER:
        return _ledger_version(store, hospital)
    return EgressLog(store).version() if asset == EGRESS else current_version(store, asset)


def seen(instance: dg.DagsterInstance, asset: str, hospital: str) -> Seen:
    """Return what Dagster knows of a hospital's asset."""
    wanted = dg.AssetRecordsFilter(dg.AssetKey(asset), asset_partitions=[hospital])
    record = newest(instance, wanted)
    if record is None:
        return Seen()
    version, when = tags_of(record).get(VERSION), datetime.fromtimestamp(record.timestamp, UTC)
    return Seen(version, str(record.storage_id), when)

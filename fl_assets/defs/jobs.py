"""Jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import (
        UnresolvedAssetJobDefinition,
    )

REFRESH_HOSPITAL = "refresh_hospital"
TRAIN_AND_PROMOTE = "train_and_promote"


def refresh_hospital(simulated: bool) -> UnresolvedAssetJobDefinition:
    """Everything that follows an upload at one hospital, in one run."""
    selected = ["hospital_records", "hospital_partitions", "hospital_profile", "local_baseline"]
    if simulated:
        selected.insert(0, "hospital_uploads")
    return dg.define_asset_job(
        REFRESH_HOSPITAL,
        selection=dg.AssetSelection.assets(*selected),
        description="Collect, validate and partition a hospital's uploads; profile and baseline.",
    )


def train_and_promote() -> UnresolvedAssetJobDefinition:
    """Train a recipe, evaluate and audit it everywhere, compare, promote if it passes all gates."""
    return dg.define_asset_job(
        TRAIN_AND_PROMOTE,
        selection=dg.AssetSelection.assets(
            "preprocessor",
            "recipe",
            "federated_model",
            "federated_evaluation",
            "membership_audit",
            "model_comparison",
            "champion_model",
        ),
        description="One recipe from preprocessor to champion.",
    )

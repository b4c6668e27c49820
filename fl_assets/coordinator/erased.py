"""Model versions that were trained on a patient who has been erased since."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from fl_assets.config import StrictModel
from fl_assets.coordinator.lineage import open_registry, registered_versions
from fl_assets.settings import Settings

TAG = "erased_since"


class StaleVersion(StrictModel):
    """A model version that saw somebody who was erased.

    Attributes:
        version, recipe: of the model.
        private: whether its training was differentially private; its epsilon bounds what it tells
            of that patient as of any other, and holds on.
        aliases: that point to it.
    """

    version: str
    recipe: str
    private: bool
    aliases: tuple[str, ...]


def mark_erased(
    settings: Settings, hospital: str, erased: Mapping[str, datetime]
) -> list[StaleVersion]:
    """Tag the model versions that saw partitions with somebody in them who was erased.

    The tag holds the day of the first erasure. Done again it changes nothing.

    Args:
        settings: where the registry is.
        hospital: name.
        erased: partition versions of the hospital that held somebody, and since when not.

    Raises:
        TrackingError: MLflow failed.
    """
    registry = open_registry(settings)
    marked = []
    for found in registered_versions(registry):
        if found.release is None or not found.holds(hospital, erased):
            continue
        since = f"{erased[found.release.hospitals[hospital].version]:%Y-%m-%d}"
        if since < found.tags.get(TAG, "9999"):
            registry.tag(found.version, TAG, since)
        marked.append(
            StaleVersion(
                version=found.version,
                recipe=found.recipe,
                private=found.private,
                aliases=found.aliases,
            )
        )
    return marked

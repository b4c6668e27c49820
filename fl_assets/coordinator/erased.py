"""Model versions that were trained on a patient who has been erased since."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from fl_assets.config import StrictModel
from fl_assets.coordinator.lineage import open_registry, registered_versions
from fl_assets.settings import Settings
from fl_assets.tracking.models import Registry

TAG = "erased_since"
_NOTE = "**Trained on data that held a patient who was erased on "


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

    The tag holds the day of the first erasure, which the model card tells as well. A version whose
    release record is lost may hold anybody. Done again it changes nothing.

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
        if not erased or not found.holds(hospital, erased):
            continue
        when = (
            min(erased.values())
            if found.release is None
            else erased[found.release.hospitals[hospital].version]
        )
        since = f"{when:%Y-%m-%d}"
        if since < found.tags.get(TAG, "9999"):
            registry.tag(found.version, TAG, since)
        if found.card and not found.card.startswith(_NOTE):
            registry.describe(found.version, found.run, f"{_NOTE}{since}.**\n\n{found.card}")
        marked.append(
            StaleVersion(
                version=found.version,
                recipe=found.recipe,
                private=found.private,
                aliases=found.aliases,
            )
        )
    return marked


def erased_versions(registry: Registry) -> dict[str, str]:
    """Return the versions that saw somebody who was erased, each with the day since when.

    Raises:
        TrackingError: MLflow failed.
    """
    versions = registry.versions()
    return {str(v.version): str(v.tags[TAG]) for v in versions if TAG in v.tags}

"""Which model versions were trained on a hospital's data, by their release records."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass

from fl_assets.coordinator.release import FILE, ReleaseRecord
from fl_assets.settings import Settings
from fl_assets.storage.documents import parse_document
from fl_assets.tracking.models import Registry
from fl_assets.tracking.runs import Tracking


@dataclass(frozen=True)
class RegisteredVersion:
    """A version in the model registry.

    Attributes:
        version: its number.
        release: its release record; None where that is lost.
        aliases: that point to it.
        tags: of the version.
        run: MLflow's run that made it.
        card: its model card; empty where it has none yet.
    """

    version: str
    release: ReleaseRecord | None
    aliases: tuple[str, ...]
    tags: dict[str, str]
    run: str = ""
    card: str = ""

    def holds(self, hospital: str, partitions: Container[str] | None = None) -> bool:
        """Tell whether a hospital's data may be in it.

        A version whose release record is lost may hold anybody's.

        Args:
            hospital: name.
            partitions: versions of its partitions; any if None.
        """
        if self.release is None:
            return True
        manifest = self.release.hospitals.get(hospital)
        return manifest is not None and (partitions is None or manifest.version in partitions)

    @property
    def recipe(self) -> str:
        """Name of the recipe, as far as it is known."""
        return self.release.recipe.name if self.release else self.tags.get("recipe", "unknown")

    @property
    def private(self) -> bool:
        """Whether its training was differentially private."""
        return self.release is not None and self.release.recipe.privacy is not None


def open_registry(settings: Settings) -> Registry:
    """Return the registry of the consortium's models."""
    tracking = Tracking(settings.tracking_uri, settings.whole_consortium.name)
    return Registry(tracking, settings.model_name)


def registered_versions(registry: Registry) -> Iterator[RegisteredVersion]:
    """Yield every version with its release record, oldest first.

    The record is the one beside the model in MLflow: in the coordinator's store a later training
    of the same name stands in place of an earlier one.

    Raises:
        TrackingError: MLflow failed.
        UnreadableDocumentError: a release record is damaged or from another release.
    """
    aliases = registry.aliases()
    for found in registry.versions():
        number = str(found.version)
        text = registry.tracking.read_text(str(found.run_id), FILE) if found.run_id else None
        release = None
        if text is not None:
            where = f"{found.run_id}/{FILE}"
            release = parse_document(text, ReleaseRecord, registry.tracking.uri, where)
        yield RegisteredVersion(
            version=number,
            release=release,
            aliases=tuple(sorted(a for a, version in aliases.items() if version == number)),
            tags={str(key): str(value) for key, value in found.tags.items()},
            run=str(found.run_id or ""),
            card=str(found.description or ""),
        )

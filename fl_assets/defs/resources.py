"""The one resource of the assets: where the consortium, its stores and MLflow are."""

from __future__ import annotations

from typing import Any

import dagster as dg
from pydantic import TypeAdapter

from fl_assets.settings import Settings

_SETTINGS = TypeAdapter(Settings)


class Platform(dg.ConfigurableResource):
    """A checkout's configuration and stores.

    Attributes:
        values: the fields of :class:`fl_assets.settings.Settings` that are set, in JSON's types.
    """

    values: dict[str, Any]

    @classmethod
    def of(cls, settings: Settings) -> Platform:
        """Wrap settings."""
        # Dagster's config knows no None in a mapping.
        return cls(values=_SETTINGS.dump_python(settings, mode="json", exclude_none=True))

    @property
    def settings(self) -> Settings:
        """The settings, made anew: a run sees the consortium as its file has it now."""
        return _SETTINGS.validate_python(self.values)

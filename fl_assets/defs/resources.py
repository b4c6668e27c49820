"""The one resource of the assets: where the consortium, its stores and MLflow are."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from fl_assets.settings import Settings


class Platform(dg.ConfigurableResource):
    """A checkout's configuration and stores, as :class:`fl_assets.settings.Settings` has them."""

    home: str
    consortium_file: str
    recipes: str
    tracking_uri: str
    coordinator_uri: str
    data: str
    synthetic_rows: int

    @classmethod
    def of(cls, settings: Settings) -> Platform:
        """Wrap settings."""
        return cls(
            home=str(settings.home),
            consortium_file=str(settings.consortium_file),
            recipes=str(settings.recipes),
            tracking_uri=settings.tracking_uri,
            coordinator_uri=settings.coordinator_uri,
            data=settings.data,
            synthetic_rows=settings.synthetic_rows,
        )

    @property
    def settings(self) -> Settings:
        """The settings, read anew: a run sees the consortium as the file has it now."""
        return Settings(
            home=Path(self.home),
            consortium_file=Path(self.consortium_file),
            recipes=Path(self.recipes),
            tracking_uri=self.tracking_uri,
            coordinator_uri=self.coordinator_uri,
            data=self.data,
            synthetic_rows=self.synthetic_rows,
        )

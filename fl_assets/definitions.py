"""All definitions on one screen."""

from __future__ import annotations

import dagster as dg

from fl_assets.defs.audit import audit_assets
from fl_assets.defs.automation import refresh_sensor
from fl_assets.defs.baselines import baseline_assets
from fl_assets.defs.egress import egress_assets
from fl_assets.defs.federation import federation_assets
from fl_assets.defs.governance import governance_assets
from fl_assets.defs.hospitals import hospital_assets
from fl_assets.defs.ingest import ingest_assets
from fl_assets.defs.jobs import refresh_hospital, train_and_promote
from fl_assets.defs.privacy import privacy_assets
from fl_assets.defs.resources import Platform
from fl_assets.defs.retraining import retraining_sensor
from fl_assets.defs.sensors import hospital_roster
from fl_assets.defs.sweep import sweep_assets
from fl_assets.defs.uploads import upload_sensor
from fl_assets.federation.recipe import recipe_names
from fl_assets.federation.sweep import sweep_names
from fl_assets.settings import Settings


def build(settings: Settings) -> dg.Definitions:
    """Return the definitions of a consortium.

    Raises:
        ConfigFileError: consortium, cohort or recipes are missing or do not fit.
    """
    simulated = settings.consortium.simulated
    recipes = dg.StaticPartitionsDefinition(recipe_names(settings.recipes))
    sweeps = dg.StaticPartitionsDefinition(sweep_names(settings.recipes))
    training, seconds = train_and_promote(), settings.sensor_seconds
    policy = settings.consortium.retraining
    return dg.Definitions(
        assets=[
            # Demo-only assets do not exist on a real consortium.
            *(ingest_assets(settings) if simulated else []),
            *hospital_assets(settings),
            *baseline_assets(settings),
            *federation_assets(settings, recipes),
            *sweep_assets(sweeps),
            *privacy_assets(settings),
            *egress_assets(),
            *audit_assets(settings, recipes),
            *governance_assets(settings),
        ],
        jobs=[refresh_hospital(simulated), training],
        sensors=[
            hospital_roster,
            upload_sensor(seconds),
            refresh_sensor(seconds),
            *([retraining_sensor(training, seconds)] if policy else []),
        ],
        resources={"platform": Platform.of(settings)},
        # A step in a process of its own would import torch and MLflow anew, seconds each time.
        executor=dg.in_process_executor,
    )


@dg.definitions
def defs() -> dg.Definitions:
    """Return the definitions of this checkout, by the environment."""
    return build(Settings.from_environment())

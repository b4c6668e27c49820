"""The check of MLflow."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from fl_assets.doctor.checks import Check
from fl_assets.settings import Settings

_SQLITE = "sqlite:///"


def tracking_check(settings: Settings) -> Check:
    """Return the check of the tracking server, or of the database in its place."""
    return Check(
        "MLflow",
        partial(_mlflow, settings.tracking_uri, settings.whole_consortium.name),
        "Start MLflow or correct MLFLOW_TRACKING_URI; a server behind a login also needs "
        "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.",
    )


def _mlflow(uri: str, experiment: str) -> str:
    if uri.startswith(_SQLITE) and not Path(uri.removeprefix(_SQLITE)).exists():
        # To look would make the database.
        return "a SQLite database in the data folder, which the first run makes"
    from fl_assets.tracking.runs import Tracking, reaching

    tracking = Tracking(uri, experiment)
    with reaching(uri):
        tracking.client.search_experiments(max_results=1)
        found = tracking.client.get_experiment_by_name(experiment)
    return "it answers" + ("; the experiment is made at the first run" if found is None else "")

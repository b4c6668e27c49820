"""Scoring patients with a registered model."""

from __future__ import annotations

import pandas as pd

from fl_assets.errors import BadDataError, FlAssetsError
from fl_assets.settings import Settings
from fl_assets.tracking.models import Registry
from fl_assets.tracking.runs import Tracking


class NoSuchModelError(FlAssetsError):
    """The registry has no such version or alias."""


class CannotScoreError(BadDataError):
    """The model refused the rows."""


def score(settings: Settings, frame: pd.DataFrame, version_or_alias: str) -> pd.DataFrame:
    """Score rows of raw columns.

    Args:
        settings: where the registry is.
        frame: n rows with the cohort's feature columns, and the id column or not.
        version_or_alias: of the registered model.

    Returns:
        n rows: the id if there is one, the probability, and whether it is above the model's
        operating threshold.

    Raises:
        NoChampionError: the champion was asked for and there is none.
        NoSuchModelError: no such version or alias.
        CannotScoreError: a column is missing, empty or of an unknown category.
    """
    from mlflow.exceptions import MlflowException

    spec = settings.cohort
    tracking = Tracking(settings.tracking_uri, settings.consortium.name)
    try:
        model = Registry(tracking, settings.model_name).load(version_or_alias)
    except MlflowException as error:
        raise NoSuchModelError(
            f"{settings.model_name} has no version or alias {version_or_alias!r}: see `fla status`"
        ) from error
    columns = [name for name in spec.column_names if name in frame.columns]
    whole = {c.name: "int64" for c in spec.columns if c.kind == "flag" and not c.nullable}
    try:
        features = frame[columns].astype({k: v for k, v in whole.items() if k in columns})
        scored = model.predict(features)
    except (MlflowException, ValueError) as error:
        raise CannotScoreError(f"the model cannot score these rows: {_first_line(error)}") from None
    if spec.id_column in frame.columns:
        scored.insert(0, spec.id_column, frame[spec.id_column].to_numpy())
    return pd.DataFrame(scored)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]

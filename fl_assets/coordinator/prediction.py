"""Scoring patients with a registered model."""

from __future__ import annotations

import pandas as pd

from fl_assets.coordinator import withdrawal
from fl_assets.coordinator.lineage import open_registry
from fl_assets.errors import BadDataError, FlAssetsError
from fl_assets.settings import Settings
from fl_assets.tracking.models import CHAMPION, LoadedModel, NoChampionError


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
        WithdrawnDataError: it has data of a hospital that has withdrawn.
        CannotScoreError: a column is missing, empty or of an unknown category.
    """
    from mlflow.exceptions import MlflowException

    spec = settings.cohort
    model = _load(settings, version_or_alias)
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


def _load(settings: Settings, version_or_alias: str) -> LoadedModel:
    registry = open_registry(settings)
    found = registry.find(version_or_alias)
    if found is None and version_or_alias == CHAMPION:
        raise NoChampionError(registry.name, withdrawal.champion_lost(settings))
    if found is None:
        raise NoSuchModelError(
            f"{registry.name} has no version or alias {version_or_alias!r}: see `fla status`"
        )
    left = found.tags.get(withdrawal.TAG)
    if left is not None:
        cure = "use the champion, or a version that was trained without"
        raise withdrawal.WithdrawnDataError(str(found.version), left.split(", "), cure)
    return registry.load(version_or_alias)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]

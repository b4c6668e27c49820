"""Which engine gathers a hospital's uploads."""

from __future__ import annotations

from fl_assets.errors import FlAssetsError
from fl_assets.settings import Settings
from fl_assets.site.gathering import Engine, gather

LOCAL, SPARK = "local", "spark"


class UnknownEngineError(FlAssetsError):
    """``FLA_INTAKE`` names no engine."""

    def __init__(self, name: str) -> None:
        super().__init__(f"FLA_INTAKE is {name!r}: use {LOCAL} or {SPARK}")


class SparkMissingError(FlAssetsError):
    """Spark was asked for and is not installed."""

    def __init__(self) -> None:
        super().__init__(
            "FLA_INTAKE is spark, and PySpark is not installed: `pip install 'fl_assets[spark]'`, "
            "with Java 8, 11 or 17"
        )


def intake_engine(settings: Settings, hospital: str) -> Engine:
    """Return the engine that the settings name, for a hospital's uploads.

    Raises:
        UnknownEngineError: there is none of that name.
        SparkMissingError: it is Spark, and its extra is not installed.
    """
    if settings.intake_engine == LOCAL:
        return gather
    if settings.intake_engine != SPARK:
        raise UnknownEngineError(settings.intake_engine)
    try:
        from fl_assets.site.spark import SparkEngine
    except ModuleNotFoundError as error:
        if error.name != "pyspark":
            raise
        raise SparkMissingError from None
    return SparkEngine(settings.site_access(hospital))

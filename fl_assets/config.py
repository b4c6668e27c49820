"""Reading the user's YAML files into models that name every bad field."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from fl_assets.errors import FlAssetsError

Model = TypeVar("Model", bound=BaseModel)


class ConfigFileError(FlAssetsError):
    """A YAML file of the user's is missing, unreadable or does not fit its model."""


class StrictModel(BaseModel):
    """A frozen model that refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def load_yaml_model(path: Path, model: type[Model]) -> Model:
    """Read a YAML file into a model.

    Raises:
        ConfigFileError: the file is missing, no YAML, or does not fit; the message names every
            bad field.
    """
    return parse_yaml_model(read_config(path), model, str(path))


def read_config(path: Path) -> str:
    """Return the text of a configuration file.

    Raises:
        ConfigFileError: it is missing or not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ConfigFileError(
            f"{path} cannot be read: {why}; run in a checkout, or say where the file is"
        ) from error


def parse_yaml_model(text: str, model: type[Model], source: str) -> Model:
    """Parse YAML text into a model; ``source`` names it in errors.

    Raises:
        ConfigFileError: no YAML, or it does not fit; the message names every bad field.
    """
    try:
        document: Any = yaml.load(text, yaml.CSafeLoader)  # The one in C is ten times as fast.
    except yaml.YAMLError as error:
        raise ConfigFileError(f"{source} is not valid YAML: {error}") from error
    if not isinstance(document, dict):
        raise ConfigFileError(f"{source} must hold a mapping of fields, see the shipped example")
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise ConfigFileError(f"{source} does not fit:\n{_explain(error)}") from error


def _explain(error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"]) or "(whole file)"
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = "unknown key; remove it or correct its spelling"
        lines.append(f"  {where}: {message}")
    return "\n".join(lines)

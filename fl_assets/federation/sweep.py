"""``Sweep``: a search for a recipe's hyper-parameters, from one YAML file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Discriminator, Field, Tag, model_validator

from fl_assets.config import ConfigFileError, StrictModel, load_yaml_model, parse_yaml_model
from fl_assets.errors import FlAssetsError
from fl_assets.federation.recipe import SUFFIX, Recipe, UnknownRecipeError, load_recipe

_FIXED = {"name", "description", "seed"}


class SweepError(FlAssetsError):
    """A sweep that cannot be run as it is written."""


class RecipeExistsError(FlAssetsError):
    """A recipe that would be overwritten."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is there already: choose another name, or remove it first")


class RangeConfig(StrictModel):
    """Numbers between two ends, both included.

    Attributes:
        low, high: whole numbers are drawn where both ends are written as such, else real ones.
        log: draw evenly on a logarithmic scale.
        step: between whole numbers; any if None.
    """

    low: int | float
    high: int | float
    log: bool = False
    step: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _fits(self) -> RangeConfig:
        if not self.low < self.high:
            raise ValueError(f"low is {self.low:g} and high {self.high:g}: low must be below high")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic scale has no {self.low:g}: give a low above 0")
        if self.step is not None and (self.log or not self.whole):
            raise ValueError("step is for whole numbers on a linear scale: leave it out")
        return self

    @property
    def whole(self) -> bool:
        """Whether whole numbers are drawn."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def corners(self) -> list[Any]:
        """The values furthest apart."""
        return [self.low, self.high]


class ChoicesConfig(StrictModel):
    """Some values.

    Attributes:
        choices: whatever the recipe's field takes, also lists and mappings.
    """

    choices: Annotated[tuple[Any, ...], Field(min_length=2)]

    @property
    def corners(self) -> list[Any]:
        """All of them."""
        return list(self.choices)

    @property
    def labels(self) -> list[str]:
        """The choices as JSON, by which they are told apart."""
        return [json.dumps(choice) for choice in self.choices]


def _kind(space: Any) -> str:
    given = space if isinstance(space, dict) else dict(space)
    return "choices" if "choices" in given else "range"


Space = Annotated[
    Annotated[RangeConfig, Tag("range")] | Annotated[ChoicesConfig, Tag("choices")],
    Discriminator(_kind),
]


class Sweep(StrictModel):
    """One search over recipes that differ in some fields.

    Attributes:
        name: the file's name without its ending; names the Dagster partition.
        description: for people.
        recipe: name of the recipe whose other fields stay as they are.
        space: what to vary, by dotted path of the recipe's field, such as ``optimizer.lr``.
        trials: trainings.
        objective: of the last global model on the hospitals' validation rows, weighted by them.
        seed: of the search.
    """

    name: str = ""
    description: str = ""
    recipe: str
    space: Annotated[dict[str, Space], Field(min_length=1)]
    trials: Annotated[int, Field(ge=1, le=10_000)] = 20
    objective: Literal["validation_auroc", "validation_loss"] = "validation_auroc"
    seed: int = 42

    @model_validator(mode="after")
    def _paths_are_apart(self) -> Sweep:
        for path in self.space:
            if path in _FIXED:
                raise ValueError(
                    f"{path} is no hyper-parameter, the best one would be luck: take it out"
                )
            inside = [other for other in self.space if other.startswith(f"{path}.")]
            if inside:
                raise ValueError(f"{inside[0]} is a part of {path}: vary one of them")
        return self

    @property
    def maximised(self) -> bool:
        """Whether more of the objective is better."""
        return self.objective == "validation_auroc"


def sweeps_folder(recipes: Path) -> Path:
    """Return where the sweeps of a folder of recipes are."""
    return recipes / "sweeps"


def sweep_names(recipes: Path) -> list[str]:
    """Return the names of the sweeps beside the recipes, sorted; there may be none."""
    return sorted(
        p.name.removesuffix(SUFFIX) for p in sweeps_folder(recipes).glob(f"[!.]*{SUFFIX}")
    )


def require_sweep(recipes: Path, name: str) -> None:
    """Check that there is a sweep of this name.

    Raises:
        UnknownRecipeError: there is not.
    """
    known = sweep_names(recipes)
    if name not in known:
        raise UnknownRecipeError("sweep", name, sweeps_folder(recipes), known)


def load_sweep(recipes: Path, name: str) -> tuple[Sweep, Recipe]:
    """Read a sweep and the recipe it starts from.

    Every end of a range and every choice is tried on the recipe, so that a wrong one is found
    before the first training.

    Raises:
        ConfigFileError: the sweep or its recipe is missing or does not fit, or a value that the
            sweep may draw does not fit the recipe.
        SweepError: the recipe has no such field.
    """
    path = sweeps_folder(recipes) / f"{name}{SUFFIX}"
    sweep = load_yaml_model(path, Sweep).model_copy(update={"name": name})
    base = load_recipe(recipes / f"{sweep.recipe}{SUFFIX}")
    for field, space in sweep.space.items():
        for value in space.corners:
            varied(base, {field: value}, str(path))
    return sweep, base


def varied(base: Recipe, values: Mapping[str, Any], source: str) -> Recipe:
    """Return a recipe with other values.

    Args:
        base: of which the rest is.
        values: by dotted path of the field.
        source: names them in errors.

    Raises:
        SweepError: the recipe has no such field.
        ConfigFileError: a value does not fit.
    """
    document = base.model_dump(mode="json")
    for path, value in values.items():
        *outer, last = path.split(".")
        place: dict[str, Any] = document
        for part in outer:
            inner = place.get(part)
            if not isinstance(inner, dict):
                raise SweepError(
                    f"{source} varies {path}, but recipe {base.name} has no {part} with fields of "
                    "its own: correct the path, or give the recipe one"
                )
            place = inner
        place[last] = value
    what = ", ".join(f"{path} = {json.dumps(value)}" for path, value in values.items())
    return parse_yaml_model(json.dumps(document), Recipe, f"{source}, {what} in {base.name}")


def recipe_text(recipe: Recipe, description: str) -> str:
    """Return a recipe as the text of a recipe file, without what it leaves at its default."""
    asked = recipe.model_dump(mode="json", exclude={"name", "description"})
    chosen = {
        field: value
        for field, value in asked.items()
        if getattr(recipe, field) != Recipe.model_fields[field].default
    }
    document = {"description": description, **chosen}
    return yaml.safe_dump(document, sort_keys=False, width=100, default_flow_style=None)


def save_recipe(recipes: Path, name: str, text: str) -> Path:
    """Write the text of a recipe file as a new recipe and return its path.

    Raises:
        RecipeExistsError: there is one of that name.
        ConfigFileError: a recipe cannot have that name.
    """
    path = recipes / f"{name}{SUFFIX}"
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise RecipeExistsError(path) from None
    try:
        load_recipe(path)
    except ConfigFileError:
        path.unlink()
        raise
    return path

"""``Recipe``: one federated experiment, from one YAML file."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from fl_assets.config import ConfigFileError, StrictModel, load_yaml_model
from fl_assets.learning.configs import LocalTraining, ModelConfig, OptimizerConfig

SUFFIX = ".yaml"
_NAME = re.compile(r"^[a-z0-9][a-z0-9_-]*$")


class FedAvgConfig(StrictModel):
    """Weighted mean of the sites' weights by training rows (McMahan et al. 2017, algorithm 1)."""

    kind: Literal["fedavg"] = "fedavg"


class FedProxConfig(StrictModel):
    """FedAvg with a proximal term at the sites (Li et al. 2020, algorithm 2).

    Attributes:
        mu: weight of the term; 0 degenerates to FedAvg.
    """

    kind: Literal["fedprox"] = "fedprox"
    mu: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.1


StrategyConfig = Annotated[FedAvgConfig | FedProxConfig, Field(discriminator="kind")]


class Recipe(StrictModel):
    """One federated experiment.

    Attributes:
        name: the file's name without its ending; names the Dagster partition.
        description: for people.
        model: which network.
        optimizer: at the sites, fresh in every round.
        strategy: how updates become the next global model.
        rounds: of training.
        local_epochs: passes over a site's rows per round.
        batch_size: rows per step.
        quorum: sites whose update must arrive in a round; all of them if None.
        round_deadline: seconds after which a missing site is a dropout of the round.
        preprocessor: ``public`` clinical constants or pooled ``moments`` of the profiles.
        seed: every random choice of the run derives from it.
    """

    name: str
    description: str = ""
    model: ModelConfig
    optimizer: OptimizerConfig = OptimizerConfig()
    strategy: StrategyConfig = FedAvgConfig()
    rounds: Annotated[int, Field(ge=1, le=10_000)] = 50
    local_epochs: Annotated[int, Field(ge=1, le=1000)] = 1
    batch_size: Annotated[int, Field(ge=1)] = 32
    quorum: Annotated[int, Field(ge=1)] | None = None
    round_deadline: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 600.0
    preprocessor: Literal["public", "moments"] = "public"
    seed: int = 42

    @property
    def hash(self) -> str:
        """Content hash of what was asked for, 12 hex digits; the description asks for nothing."""
        asked = self.model_dump_json(exclude={"description"})
        return hashlib.sha256(asked.encode()).hexdigest()[:12]

    @property
    def local_training(self) -> LocalTraining:
        """The part of the recipe that a site carries out."""
        return LocalTraining(
            model=self.model,
            optimizer=self.optimizer,
            epochs=self.local_epochs,
            batch_size=self.batch_size,
            proximal_mu=self.strategy.mu if isinstance(self.strategy, FedProxConfig) else 0.0,
            seed=self.seed,
        )


class _RecipeFile(Recipe):
    """A recipe file may leave the name out: the file has one."""

    name: str = ""


def load_recipe(path: Path) -> Recipe:
    """Read a recipe; its name is the file's.

    Raises:
        ConfigFileError: missing, no YAML, or a field does not fit; the message names it.
    """
    stem = path.name.removesuffix(SUFFIX)
    if not _NAME.match(stem):
        raise ConfigFileError(
            f"{path} cannot name a recipe: use lower-case letters, digits, hyphens and underscores"
        )
    found = load_yaml_model(path, _RecipeFile)
    if found.name not in ("", stem):
        raise ConfigFileError(f"{path} calls itself {found.name!r}: a recipe has its file's name")
    return Recipe.model_validate(found.model_dump() | {"name": stem})


def recipe_names(folder: Path) -> list[str]:
    """Return the names of the recipes in a folder, sorted.

    Raises:
        ConfigFileError: the folder holds none, or one that ends in ``.yml``.
    """
    # A hidden file is an editor's or a file system's.
    misnamed = sorted(p.name for p in folder.glob("*.yml"))
    if misnamed:
        raise ConfigFileError(f"{folder} holds {', '.join(misnamed)}: a recipe ends in {SUFFIX}")
    names = sorted(p.name.removesuffix(SUFFIX) for p in folder.glob(f"[!.]*{SUFFIX}"))
    if not names:
        raise ConfigFileError(f"{folder} holds no recipe: add one, for example fedavg-lr.yaml")
    return names

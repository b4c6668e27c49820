"""``Recipe``: one federated experiment, from one YAML file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from fl_assets.config import ConfigFileError, StrictModel, load_yaml_model
from fl_assets.errors import FlAssetsError
from fl_assets.federation.strategies.configs import (
    FedAvgConfig,
    KrumConfig,
    MedianConfig,
    NonNegative,
    NormBound,
    Positive,
    ProximalConfig,
    StrategyConfig,
    TrimmedMeanConfig,
)
from fl_assets.learning.configs import (
    BCEConfig,
    EmbeddingConfig,
    LocalTraining,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
)
from fl_assets.privacy.configs import PrivacyConfig, SecureAggregationConfig

SUFFIX = ".yaml"
_NAME = re.compile(r"^[a-z0-9][a-z0-9_-]*$")


FeatureWeight = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class LocalLayersConfig(StrictModel):
    """Layers that stay at each hospital, as FedBN's norms do (Li et al. 2021, algorithm 1).

    Attributes:
        layers: ``norm`` for the norm layers, ``head`` for the layer that gives the logit.
    """

    kind: Literal["local_layers"] = "local_layers"
    layers: Literal["norm", "head"] = "norm"


class FineTuningConfig(StrictModel):
    """Every hospital goes on from the final global model, on its own rows, for itself.

    Attributes:
        epochs: passes over its rows.
        lr: learning rate; the recipe's optimiser's if None.
    """

    kind: Literal["fine_tuning"] = "fine_tuning"
    epochs: Annotated[int, Field(ge=1, le=1000)] = 5
    lr: Positive | None = None


PersonalisationConfig = Annotated[LocalLayersConfig | FineTuningConfig, Field(discriminator="kind")]


class PretrainingConfig(StrictModel):
    """Federated training of the encoder as an autoencoder, before that of the whole model.

    Needs no label. Only the encoder's weights are averaged; each decoder stays at its hospital.

    Attributes:
        rounds: before the recipe's own.
        local_epochs: passes over a site's rows in each.
        lr: of Adam.
        noise: standard deviation of Gaussian noise on the input; 0 for a plain autoencoder, more
            for a denoising one (Vincent et al. 2008).
    """

    rounds: Annotated[int, Field(ge=1, le=1000)] = 10
    local_epochs: Annotated[int, Field(ge=1, le=1000)] = 1
    lr: Positive = 1e-3
    noise: NonNegative = 0.0


class Recipe(StrictModel):
    """One federated experiment.

    Attributes:
        name: the file's name without its ending; names the Dagster partition.
        description: for people.
        model: which network.
        loss: what the sites minimise.
        optimizer: at the sites, fresh in every round.
        strategy: how updates become the next global model.
        rounds: of training.
        local_epochs: passes over a site's rows per round.
        batch_size: rows per step.
        fraction: of the sites asked in a round, never fewer than the quorum; drawn by the seed.
        quorum: sites whose update must arrive in a round; all that are asked if None.
        round_deadline: seconds after which a missing site is a dropout of the round.
        norm_bound: on updates, before they count.
        personalisation: what each hospital keeps for itself; nothing if None.
        pretraining: of an ``embedding`` model's encoder; none if None.
        privacy: differential privacy at the sites; none if None.
        secure_aggregation: masked sums; every update is seen by the server if None.
        average_rounds: of so many last rounds the mean of the global models is the run's model
            (Polyak & Juditsky 1992); 1 takes the last one.
        preprocessor: ``public`` clinical constants or pooled ``moments`` of the profiles.
        features: weight of each feature by its name, those not named being left out; all with
            weight 1 if None.
        seed: every random choice of the run derives from it.
    """

    name: str
    description: str = ""
    model: ModelConfig
    loss: LossConfig = BCEConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    strategy: StrategyConfig = FedAvgConfig()
    rounds: Annotated[int, Field(ge=1, le=10_000)] = 50
    local_epochs: Annotated[int, Field(ge=1, le=1000)] = 1
    batch_size: Annotated[int, Field(ge=1)] = 32
    fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    quorum: Annotated[int, Field(ge=1)] | None = None
    round_deadline: Positive = 600.0
    norm_bound: NormBound = NormBound()
    personalisation: PersonalisationConfig | None = None
    pretraining: PretrainingConfig | None = None
    privacy: PrivacyConfig | None = None
    secure_aggregation: SecureAggregationConfig | None = None
    average_rounds: Annotated[int, Field(ge=1)] = 1
    preprocessor: Literal["public", "moments"] = "public"
    features: dict[str, FeatureWeight] | None = None
    seed: int = 42

    @model_validator(mode="after")
    def _parts_fit_the_model(self) -> Recipe:
        if self.pretraining is not None and not isinstance(self.model, EmbeddingConfig):
            raise ValueError(
                f"pretraining is for the encoder of an embedding model, not for {self.model.kind}: "
                "leave it out"
            )
        keeps_norms = self.personalisation == LocalLayersConfig(layers="norm")
        if keeps_norms and getattr(self.model, "norm", "none") == "none":
            raise ValueError(
                f"this {self.model.kind} has no norm layers to keep at home: give it "
                "`norm: layer`, or choose `layers: head`"
            )
        return self

    @model_validator(mode="after")
    def _privacy_covers_all_that_leaves(self) -> Recipe:
        if self.privacy is None:
            return self
        if self.pretraining is not None:
            raise ValueError("pretraining adds no noise: leave it out, or `privacy`")
        if self.preprocessor != "public":
            raise ValueError(
                "moments of the patients' own values are a release without noise: with `privacy` "
                "choose `preprocessor: public`"
            )
        if (self.local_epochs, self.batch_size) != (1, 32):
            raise ValueError(
                "with `privacy` a round has `privacy.steps` steps with `privacy.sampling_rate` of "
                "the rows each: leave `local_epochs` and `batch_size` out"
            )
        return self

    @model_validator(mode="after")
    def _masked_sums_suffice(self) -> Recipe:
        if self.secure_aggregation is not None and isinstance(
            self.strategy, MedianConfig | TrimmedMeanConfig | KrumConfig
        ):
            raise ValueError(
                f"{self.strategy.kind} looks at single updates, which `secure_aggregation` hides: "
                "choose fedavg, fedprox or a server optimiser, or leave one of the two out"
            )
        return self

    @model_validator(mode="after")
    def _averages_its_own_rounds(self) -> Recipe:
        if self.average_rounds > self.rounds:
            raise ValueError(
                f"average_rounds is {self.average_rounds} and there are {self.rounds} rounds: "
                "lower it"
            )
        return self

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
            loss=self.loss,
            optimizer=self.optimizer,
            epochs=self.local_epochs,
            batch_size=self.batch_size,
            proximal_mu=self.strategy.mu if isinstance(self.strategy, ProximalConfig) else 0.0,
            seed=self.seed,
        )


class UnknownRecipeError(FlAssetsError):
    """A recipe or sweep that is not in its folder."""

    def __init__(self, kind: str, name: str, folder: Path, known: Sequence[str]) -> None:
        cure = f"it has {', '.join(known) or 'none'}"
        file = Path(name)
        if file.suffix or len(file.parts) > 1:
            first = "" if file.stem in known else f"copy it to {folder / file.stem}.yaml, then "
            cure = f"{first}call it {file.stem!r}"
        super().__init__(f"{name!r} is no {kind} in {folder}: {cure}")


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


def routine_names(folder: Path, routine: tuple[str, ...] | None) -> list[str]:
    """Return the recipes that are trained without being asked for; ``routine`` or, if None, all.

    Raises:
        ConfigFileError: the routine names a recipe that the folder does not hold.
    """
    names = recipe_names(folder)
    missing = sorted(set(routine or ()) - set(names))
    if missing:
        raise ConfigFileError(
            f"consortium.yaml has {', '.join(missing)} in its routine, which {folder} does not "
            f"hold: correct the name, or add the recipe; it has {', '.join(names)}"
        )
    return names if routine is None else list(routine)


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


def require_recipe(folder: Path, name: str) -> None:
    """Check that a folder holds a recipe.

    Raises:
        UnknownRecipeError: it does not.
    """
    known = recipe_names(folder)
    if name not in known:
        raise UnknownRecipeError("recipe", name, folder, known)

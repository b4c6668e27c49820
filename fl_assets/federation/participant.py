"""A hospital in one federated run: what it does with the server's weights, without Flower."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Protocol

from torch import Tensor, nn

from fl_assets.errors import FlAssetsError
from fl_assets.federation.recipe import FineTuningConfig, LocalLayersConfig, Recipe
from fl_assets.learning.configs import EmbeddingConfig
from fl_assets.learning.features import Preprocessor
from fl_assets.learning.models import local_names
from fl_assets.learning.training import TrainingDivergedError
from fl_assets.site.client_state import ClientState, Phase
from fl_assets.site.personal import KeptLayers, load_personal, save_personal
from fl_assets.site.pretraining import AutoencoderTrainer
from fl_assets.site.training import SiteTrainer, Update, Validation
from fl_assets.storage import SiteStore

log = logging.getLogger(__name__)


class NoPretrainingError(FlAssetsError):
    """A site was asked to pre-train though its recipe says nothing of it."""

    def __init__(self, recipe: str) -> None:
        super().__init__(
            f"recipe {recipe} asks for no pre-training of an embedding model: bring server and "
            "site to the same version of the software"
        )


class _Trainer(Protocol):
    def train_round(self, weights: Mapping[str, Tensor], round_: int) -> Update: ...


class Participant:
    """A hospital's part in a run: it trains, and keeps what is its own.

    Args:
        hospital: name.
        store: its own.
        run: name of the run.
        recipe: of the run.
        preprocessor: of the run.
        checkpoints: how many rounds the server can go back.

    Attributes:
        partitions: version of the partitions that it trains on.

    Raises:
        ObjectNotFoundError: the partitions were never built.
        NoTrainingRowsError: they hold no training row.
    """

    def __init__(
        self,
        hospital: str,
        store: SiteStore,
        *,
        run: str,
        recipe: Recipe,
        preprocessor: Preprocessor,
        checkpoints: int,
    ) -> None:
        self._hospital = hospital
        self._store = store
        self._run = run
        self._recipe = recipe
        self._state = ClientState(store, run, rounds=checkpoints)
        self._trainer = SiteTrainer(hospital, store, recipe.local_training, preprocessor)
        self._layers = self._keeping(Phase.TRAINING, self._trainer.model)
        self.partitions = self._trainer.rows.partitions

    def _keeping(self, phase: Phase, model: nn.Module) -> KeptLayers:
        """Return the layers that stay here: any decoder, and those that the recipe says."""
        first = model.state_dict()
        names = {name for name in first if name.startswith("decoder.")}
        asked = self._recipe.personalisation
        if isinstance(asked, LocalLayersConfig):
            names |= local_names(self._trainer.model, asked.layers) & first.keys()
        return KeptLayers(phase, names, first, self._state)

    @cached_property
    def _pretraining(self) -> tuple[AutoencoderTrainer, KeptLayers]:
        recipe, asked = self._recipe, self._recipe.pretraining
        if asked is None or not isinstance(recipe.model, EmbeddingConfig):
            raise NoPretrainingError(recipe.name)
        trainer = AutoencoderTrainer(
            self._trainer.rows,
            recipe.model,
            seed=recipe.seed,
            epochs=asked.local_epochs,
            batch_size=recipe.batch_size,
            lr=asked.lr,
            noise=asked.noise,
        )
        return trainer, self._keeping(Phase.PRETRAINING, trainer.model)

    def pretrain(self, shared: Mapping[str, Tensor], round_: int) -> Update:
        """Train the encoder for one round; the update holds only what may leave.

        Raises:
            OtherModelError: the server's weights are not the encoder's.
            NoPretrainingError: the recipe asks for none.
        """
        return _round(*self._pretraining, shared, round_)

    def train(self, shared: Mapping[str, Tensor], round_: int) -> Update:
        """Train the model for one round; the update holds only what may leave.

        Raises:
            OtherModelError: the server's weights are not those of the recipe's model.
        """
        return _round(self._trainer, self._layers, shared, round_)

    def evaluate(
        self, shared: Mapping[str, Tensor], round_: int
    ) -> tuple[Validation, Validation | None]:
        """Validate the global model after the last round, and the hospital's own, if it has one.

        The hospital's own model is stored here, and the run's states end with it. In the global
        model the layers that stay at the hospitals have their first values: nobody has others.
        """
        found, personal = self._trainer.validate(self._layers.complete(shared)), None
        own = self._own_model(shared, round_)
        if own is not None:
            save_personal(self._store, self._run, own)
            personal = self._trainer.validate(own)
        self._state.clear()
        return found, personal

    def _own_model(self, shared: Mapping[str, Tensor], round_: int) -> dict[str, Tensor] | None:
        match self._recipe.personalisation:
            case LocalLayersConfig():
                # A server that did not get the first answer asks again, when the states are gone.
                answered = load_personal(self._store, self._run)
                return self._layers.join(shared, round_ + 1, answered)
            case FineTuningConfig(epochs=epochs, lr=lr):
                try:
                    return self._trainer.fine_tune(shared, epochs, lr)
                except TrainingDivergedError as error:
                    # The global model's figures are worth having without it.
                    log.warning("%s has no model of its own: %s", self._hospital, error)
        return None


def _round(
    trainer: _Trainer, layers: KeptLayers, shared: Mapping[str, Tensor], round_: int
) -> Update:
    update = trainer.train_round(layers.join(shared, round_), round_)
    return replace(update, weights=layers.split(update.weights, round_))

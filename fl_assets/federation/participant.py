"""A hospital in one federated run: what it does with the server's weights, without Flower."""

from __future__ import annotations

import hashlib
import logging
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor, nn

from fl_assets.consortium import PrivacyBudget
from fl_assets.errors import FlAssetsError
from fl_assets.federation.recipe import FineTuningConfig, LocalLayersConfig, Recipe
from fl_assets.federation.site_config import SiteConfig
from fl_assets.federation.statement import PrivacyStatement, state
from fl_assets.learning.configs import EmbeddingConfig
from fl_assets.learning.features import Preprocessor
from fl_assets.learning.models import local_names
from fl_assets.learning.training import TrainingDivergedError, derive_seed
from fl_assets.privacy.configs import PrivacyConfig
from fl_assets.privacy.dpsgd import DeltaTooLargeError, TooFewRowsError
from fl_assets.privacy.ledger import BudgetExceededError
from fl_assets.privacy.ledger_entries import LedgerHead
from fl_assets.privacy.noise import NoiseSource, SecureNoise, SeededNoise
from fl_assets.site.answers import Answer
from fl_assets.site.client_state import ClientState, Phase
from fl_assets.site.noised_evaluation import noised_figures, noised_validation
from fl_assets.site.partitions import load_manifest
from fl_assets.site.personal import KeptLayers, load_personal, save_personal
from fl_assets.site.pretraining import AutoencoderTrainer
from fl_assets.site.spending import RunSpending
from fl_assets.site.training import WITHHELD, SiteTrainer, Update, Validation
from fl_assets.storage import SiteStore

log = logging.getLogger(__name__)


class NoPretrainingError(FlAssetsError):
    """A site was asked to pre-train though its recipe says nothing of it."""

    def __init__(self, recipe: str) -> None:
        super().__init__(
            f"recipe {recipe} asks for no pre-training of an embedding model: bring server and "
            "site to the same version of the software"
        )


class BadRunNameError(FlAssetsError):
    """A run's name that could lead to what another run has in the hospital's store."""

    def __init__(self) -> None:
        super().__init__(
            "a run is named by letters, digits, dots, dashes and underscores alone: bring server "
            "and site to the same version of the software"
        )


RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""It is a part of keys in the hospital's store."""


class _Trainer(Protocol):
    def train_round(self, weights: Mapping[str, Tensor], round_: int) -> Update: ...


class Participant:
    """A hospital's part in a run: it trains, and keeps what is its own.

    What the run may learn of the patients is reserved in the hospital's ledger before a row is
    opened. Under differential privacy an update tells nothing but noised weights and the number of
    training rows, which is public; and a round that is asked again gets the same answer.

    Args:
        config: of the hospital's node.
        store: its own.
        run: name of the run.
        recipe: of the run.
        preprocessor: of the run.
        checkpoints: how many rounds the server can go back.
        witnesses: heads of the hospital's ledger that the coordinator saw.

    Attributes:
        partitions: version of the partitions that it trains on.

    Raises:
        BadRunNameError: the run's name is none.
        TooFewRowsError: fewer training rows than the recipe's privacy or the hospital asks for.
        DeltaTooLargeError: the recipe's delta is above one over the training rows.
        BudgetExceededError, UnprotectedRunError, LedgerDamagedError: see
            :mod:`fl_assets.site.spending`.
        ObjectNotFoundError: the partitions were never built.
        NoTrainingRowsError: they hold no training row.
    """

    def __init__(
        self,
        config: SiteConfig,
        store: SiteStore,
        *,
        run: str,
        recipe: Recipe,
        preprocessor: Preprocessor,
        checkpoints: int,
        witnesses: Iterable[LedgerHead] = (),
    ) -> None:
        if not RUN_NAME.fullmatch(run):
            raise BadRunNameError
        self._config = config
        self._hospital = hospital = config.hospital
        self._store = store
        self._run = run
        self._recipe = recipe
        self._preprocessor = preprocessor
        # Before anything is reserved for a training that cannot be; a manifest holds no row.
        if recipe.privacy is not None:
            _check_cohort(load_manifest(store).files["train"].rows, recipe.privacy, config.budget)
        self._spending = RunSpending.open(
            store,
            hospital,
            run=run,
            privacy=recipe.privacy,
            rounds=recipe.rounds,
            budget=config.budget,
            witnesses=witnesses,
        )
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
            OtherWeightsError, RoundNotReservedError, RunClosedError: under differential privacy,
                the round was not reserved or was answered from other weights.
        """
        privacy, event = self._recipe.privacy, self._spending.event
        if privacy is None or event is None:
            return _round(self._trainer, self._layers, shared, round_)
        start = time.perf_counter()

        def make() -> Answer:
            weights = self._trainer.train_privately(
                self._layers.join(shared, round_),
                privacy,
                event.noise_multiplier,
                self._noise(round_),
            )
            released = self._layers.split(weights, round_)
            arrays = {name: weight.numpy() for name, weight in released.items()}
            return Answer(arrays, len(self._trainer.rows.train.X))

        answer = self._spending.answer(round_, _digest(shared), make)
        return Update(
            weights={name: torch.from_numpy(a) for name, a in answer.arrays.items()},
            examples=answer.examples,
            loss=None,
            validation=WITHHELD,
            seconds=time.perf_counter() - start,
        )

    def _noise(self, round_: int) -> NoiseSource:
        seed = self._config.noise_seed
        if seed is None:
            return SecureNoise()
        return SeededNoise(derive_seed(seed, self._hospital, self._run, round_))

    def evaluate(
        self, shared: Mapping[str, Tensor], round_: int
    ) -> tuple[Validation, Validation | None]:
        """Validate the global model after the last round, and the hospital's own, if it has one.

        The hospital's own model is stored here, and the run's states end with it. In the global
        model the layers that stay at the hospitals have their first values: nobody has others.
        Under differential privacy the run is settled, and figures are noised or withheld.
        """
        private, personal = self._recipe.privacy is not None, None
        complete = self._layers.complete(shared)
        found = self._validate_noised(complete) if private else self._trainer.validate(complete)
        own = self._own_model(shared, round_)
        if own is not None:
            save_personal(self._store, self._run, own)
            personal = WITHHELD if private else self._trainer.validate(own)
        self.close()
        self._state.clear()
        return found, personal

    def _validate_noised(self, weights: Mapping[str, Tensor]) -> Validation:
        budget, seed = self._config.budget, self._config.noise_seed
        noise = None if seed is None else self._noise(self._recipe.rounds + 1)
        release = noised_figures(self._recipe.privacy, self._hospital, budget, noise)
        self._trainer.model.load_state_dict(dict(weights))
        try:
            return noised_validation(
                self._store,
                self._trainer.rows,
                self._trainer.model,
                release,
                run=self._run,
                prevalence=self._preprocessor.cohort.label.prevalence,
            )
        except BudgetExceededError as error:
            # The training is done and paid for; only what is said of it is too much.
            log.warning("%s withholds its figures: %s", self._hospital, error)
            return WITHHELD

    def close(self) -> None:
        """Settle by what was released; the run can release nothing more."""
        self._spending.close()

    def statement(self) -> PrivacyStatement:
        """Return what the run cost the hospital's patients, and where its ledger stands."""
        balance, head = self._spending.standing()
        return state(self._run, self._recipe.privacy, self._config, balance, head)

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


def _check_cohort(rows: int, privacy: PrivacyConfig, budget: PrivacyBudget) -> None:
    minimum = max(privacy.minimum_rows, budget.minimum_rows)
    if rows < minimum:
        raise TooFewRowsError(rows, minimum)
    if privacy.delta * rows > 1:
        raise DeltaTooLargeError(privacy.delta, rows)


def _digest(weights: Mapping[str, Tensor]) -> bytes:
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(f"{name}\0".encode() + weights[name].numpy().tobytes())
    return digest.digest()


def _round(
    trainer: _Trainer, layers: KeptLayers, shared: Mapping[str, Tensor], round_: int
) -> Update:
    update = trainer.train_round(layers.join(shared, round_), round_)
    return replace(update, weights=layers.split(update.weights, round_))

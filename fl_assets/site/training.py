"""Training at a site: one round on the hospital's own rows."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fl_assets.errors import BadDataError
from fl_assets.learning import metrics
from fl_assets.learning.configs import LocalTraining, OptimizerConfig
from fl_assets.learning.features import Preprocessor
from fl_assets.learning.losses import build_objective
from fl_assets.learning.models import model_for
from fl_assets.learning.training import derive_seed, predict, train_epochs
from fl_assets.privacy.configs import PrivacyConfig
from fl_assets.privacy.dpsgd import train_privately
from fl_assets.privacy.noise import NoiseSource
from fl_assets.site import partitions
from fl_assets.storage import SiteStore


class NoTrainingRowsError(BadDataError):
    """A hospital whose training partition is empty."""


@dataclass(frozen=True)
class Features:
    """One part of the partitions as tensors: X float32 [n, d], y float32 [n]."""

    X: Tensor
    y: Tensor


@dataclass(frozen=True)
class SiteRows:
    """A hospital's rows for one run; the test rows stay closed.

    Attributes:
        hospital: name.
        partitions: version of the partitions that they are from.
        train, validation: features and labels.
    """

    hospital: str
    partitions: str
    train: Features
    validation: Features


@dataclass(frozen=True)
class Validation:
    """How a model does on the site's validation rows.

    Attributes:
        examples: rows.
        loss: mean negative log-likelihood, or that of the reconstruction where an autoencoder is
            trained; None without rows.
        auroc: None unless both classes are there.
        threshold: probability above which a fifth of the healthy lie (80 % specificity), None
            without a healthy row.
    """

    examples: int
    loss: float | None
    auroc: float | None
    threshold: float | None = None


WITHHELD = Validation(0, None, None)
"""In place of figures that would be a release without noise."""


@dataclass(frozen=True)
class Update:
    """What a site has to say after a round.

    Attributes:
        weights: the locally trained state dict.
        examples: training rows.
        loss: mean training loss of the last local epoch; None where it is withheld for privacy.
        validation: of the weights that came in, before training.
        seconds: wall time at the site.
    """

    weights: dict[str, Tensor]
    examples: int
    loss: float | None
    validation: Validation
    seconds: float


class SiteTrainer:
    """A hospital's half of one federated run; opens the rows once.

    The partition version is the current one when the run starts and stays for all its rounds.

    Attributes:
        rows: the hospital's.
        model: every call loads its weights anew; until then it holds the model's first values.

    Raises:
        ObjectNotFoundError: the partitions were never built.
        NoTrainingRowsError: they hold no training row.
    """

    def __init__(
        self, hospital: str, store: SiteStore, plan: LocalTraining, preprocessor: Preprocessor
    ) -> None:
        self.rows = _open_rows(hospital, store, preprocessor)
        self._plan = plan
        self._objective = build_objective(plan.loss, preprocessor.cohort.label.prevalence)
        self.model = model_for(plan.model, preprocessor, plan.seed)

    def train_round(self, weights: Mapping[str, Tensor], round_: int) -> Update:
        """Validate the weights, then train from them for one round.

        Every random choice derives from the plan's seed, the hospital and the round, so a
        round gives the same update in whatever process it runs.
        """
        start = time.perf_counter()
        plan = self._plan
        self.model.load_state_dict(dict(weights))
        validation = self._validate()
        seed = derive_seed(plan.seed, self.rows.hospital, round_)
        loss = self._descend(plan.optimizer, plan.epochs, seed, plan.proximal_mu)
        return Update(
            weights=copy_of(self.model),
            examples=len(self.rows.train.X),
            loss=loss,
            validation=validation,
            seconds=time.perf_counter() - start,
        )

    def train_privately(
        self,
        weights: Mapping[str, Tensor],
        privacy: PrivacyConfig,
        noise_multiplier: float,
        noise: NoiseSource,
    ) -> dict[str, Tensor]:
        """Return the weights after a round of noised steps; nothing else of it may be told.

        Raises:
            TooFewRowsError, UnsuitableModelError: see :mod:`fl_assets.privacy.dpsgd`.
        """
        self.model.load_state_dict(dict(weights))
        train_privately(
            self.model,
            self.rows.train.X,
            self.rows.train.y,
            objective=self._objective,
            optimizer=self._plan.optimizer,
            privacy=privacy,
            noise_multiplier=noise_multiplier,
            noise=noise,
            proximal_mu=self._plan.proximal_mu,
        )
        return copy_of(self.model)

    def fine_tune(
        self, weights: Mapping[str, Tensor], epochs: int, lr: float | None
    ) -> dict[str, Tensor]:
        """Train on from the last global weights, for the hospital alone.

        Args:
            weights: to begin with.
            epochs: passes over the training rows.
            lr: learning rate; the plan's optimiser's if None.

        Raises:
            TrainingDivergedError: it led nowhere.
        """
        optimizer = self._plan.optimizer
        if lr is not None:
            optimizer = optimizer.model_copy(update={"lr": lr})
        self.model.load_state_dict(dict(weights))
        seed = derive_seed(self._plan.seed, self.rows.hospital, "fine_tuning")
        self._descend(optimizer, epochs, seed)
        return copy_of(self.model)

    def validate(self, weights: Mapping[str, Tensor]) -> Validation:
        """Validate weights, with the operating threshold that the site would choose."""
        self.model.load_state_dict(dict(weights))
        return self._validate(with_threshold=True)

    def _descend(
        self, optimizer: OptimizerConfig, epochs: int, seed: int, proximal_mu: float = 0.0
    ) -> float:
        return train_epochs(
            self.model,
            self.rows.train.X,
            self.rows.train.y,
            objective=self._objective,
            optimizer=optimizer,
            epochs=epochs,
            batch_size=self._plan.batch_size,
            seed=seed,
            proximal_mu=proximal_mu,
        )

    def _validate(self, with_threshold: bool = False) -> Validation:
        y = self.rows.validation.y.numpy()
        if not len(y):
            return Validation(0, None, None)
        scores = predict(self.model, self.rows.validation.X)
        return Validation(
            examples=len(y),
            loss=metrics.log_loss(y, scores),
            auroc=metrics.auroc(y, scores),
            threshold=metrics.threshold_at_specificity(y, scores, 0.8) if with_threshold else None,
        )


def copy_of(model: nn.Module) -> dict[str, Tensor]:
    """Return a model's weights; its state dict is a view, and the next round trains it on."""
    return {name: w.clone() for name, w in model.state_dict().items()}


def _open_rows(hospital: str, store: SiteStore, preprocessor: Preprocessor) -> SiteRows:
    manifest = partitions.load_manifest(store)
    train = load_features(store, manifest, "train", preprocessor)
    if not len(train.X):
        raise NoTrainingRowsError(
            f"{hospital} has no training row in partitions {manifest.version}: collect more "
            "records or leave it out of the run"
        )
    validation = load_features(store, manifest, "validation", preprocessor)
    return SiteRows(hospital, manifest.version, train, validation)


def load_features(
    store: SiteStore,
    manifest: partitions.PartitionManifest,
    part: partitions.Part,
    preprocessor: Preprocessor,
) -> Features:
    """Open one part of the hospital's rows as tensors."""
    frame = partitions.load_part(store, manifest, part)
    label: NDArray[np.float32] = frame[preprocessor.cohort.label.column].to_numpy(dtype=np.float32)
    return Features(torch.from_numpy(preprocessor.transform(frame)), torch.from_numpy(label))

"""Training at a site: one round on the hospital's own rows."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fl_assets.errors import BadDataError
from fl_assets.learning import metrics
from fl_assets.learning.configs import LocalTraining
from fl_assets.learning.features import Preprocessor
from fl_assets.learning.models import build_model
from fl_assets.learning.training import derive_seed, predict, train_epochs
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
class Validation:
    """How a model does on the site's validation rows.

    Attributes:
        examples: rows.
        loss: mean negative log-likelihood, None without rows.
        auroc: None unless both classes are there.
        threshold: probability above which a fifth of the healthy lie (80 % specificity), None
            without a healthy row.
    """

    examples: int
    loss: float | None
    auroc: float | None
    threshold: float | None = None


@dataclass(frozen=True)
class Update:
    """What a site has to say after a round.

    Attributes:
        weights: the locally trained state dict.
        examples: training rows.
        loss: mean training loss of the last local epoch.
        validation: of the weights that came in, before training.
        seconds: wall time at the site.
    """

    weights: dict[str, Tensor]
    examples: int
    loss: float
    validation: Validation
    seconds: float


class SiteTrainer:
    """A hospital's half of one federated run; opens the rows once.

    The partition version is the current one when the run starts and stays for all its rounds.

    Raises:
        ObjectNotFoundError: the partitions were never built.
        NoTrainingRowsError: they hold no training row.
    """

    def __init__(
        self, hospital: str, store: SiteStore, plan: LocalTraining, preprocessor: Preprocessor
    ) -> None:
        # Models of this size lose time to a second thread.
        torch.set_num_threads(1)
        self.hospital = hospital
        self._plan = plan
        manifest = partitions.load_manifest(store)
        self.partitions = manifest.version
        self._train = load_features(store, manifest, "train", preprocessor)
        self._validation = load_features(store, manifest, "validation", preprocessor)
        if not len(self._train.X):
            raise NoTrainingRowsError(
                f"{hospital} has no training row in partitions {manifest.version}: collect more "
                "records or leave it out of the run"
            )
        label = preprocessor.cohort.label
        self._model = build_model(plan.model, self._train.X.shape[1], label.prevalence, plan.seed)

    def train_round(self, weights: Mapping[str, Tensor], round_: int) -> Update:
        """Validate the global weights, then train from them for one round.

        Every random choice derives from the plan's seed, the hospital and the round, so a
        round gives the same update in whatever process it runs.
        """
        start = time.perf_counter()
        self._model.load_state_dict(dict(weights))
        validation = self._validate()
        plan = self._plan
        loss = train_epochs(
            self._model,
            self._train.X,
            self._train.y,
            optimizer=plan.optimizer,
            epochs=plan.epochs,
            batch_size=plan.batch_size,
            seed=derive_seed(plan.seed, self.hospital, round_),
            proximal_mu=plan.proximal_mu,
        )
        return Update(
            # Copies: the state dict is a view, and the next round trains the same model.
            weights={name: w.clone() for name, w in self._model.state_dict().items()},
            examples=len(self._train.X),
            loss=loss,
            validation=validation,
            seconds=time.perf_counter() - start,
        )

    def validate(self, weights: Mapping[str, Tensor]) -> Validation:
        """Validate weights, with the operating threshold that the site would choose."""
        self._model.load_state_dict(dict(weights))
        return self._validate(with_threshold=True)

    def _validate(self, with_threshold: bool = False) -> Validation:
        y = self._validation.y.numpy()
        if not len(y):
            return Validation(0, None, None)
        scores = predict(self._model, self._validation.X)
        return Validation(
            examples=len(y),
            loss=metrics.log_loss(y, scores),
            auroc=metrics.auroc(y, scores),
            threshold=metrics.threshold_at_specificity(y, scores, 0.8) if with_threshold else None,
        )


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

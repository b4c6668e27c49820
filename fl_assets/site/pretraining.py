"""Pre-training at a site: one round of an autoencoder on the hospital's own rows."""

from __future__ import annotations

import time
from collections.abc import Mapping

import torch
from torch import Tensor

from fl_assets.learning.configs import EmbeddingConfig, OptimizerConfig
from fl_assets.learning.losses import reconstruction_error
from fl_assets.learning.models import build_autoencoder
from fl_assets.learning.training import derive_seed, infer, train_epochs
from fl_assets.site.training import SiteRows, Update, Validation, copy_of


class AutoencoderTrainer:
    """Trains an encoder to keep what its input held, which needs no label.

    Args:
        rows: the hospital's.
        config: of the embedding model whose encoder it is.
        seed: the recipe's.
        epochs: passes over the training rows in a round.
        batch_size: rows per step.
        lr: of Adam.
        noise: standard deviation of the Gaussian noise that training must see through (Vincent et
            al. 2008, section 2.3); with 0 it degenerates to a plain autoencoder.

    Attributes:
        model: every call loads its weights anew; until then it holds the model's first values.
    """

    def __init__(
        self,
        rows: SiteRows,
        config: EmbeddingConfig,
        *,
        seed: int,
        epochs: int,
        batch_size: int,
        lr: float,
        noise: float,
    ) -> None:
        self._rows = rows
        self._seed = seed
        self._epochs = epochs
        self._batch_size = batch_size
        self._optimizer = OptimizerConfig(kind="adam", lr=lr)
        self._noise = noise
        self.model = build_autoencoder(config, rows.train.X.shape[1], seed)

    def train_round(self, weights: Mapping[str, Tensor], round_: int) -> Update:
        """Validate the weights, then train from them for one round.

        The losses are mean squared errors of the reconstruction, on clean rows in validation.
        Noise and shuffles derive from seed, hospital and round, as in training.
        """
        start = time.perf_counter()
        self.model.load_state_dict(dict(weights))
        validation = self._validate()
        X = self._rows.train.X
        loss = train_epochs(
            self.model,
            self._noisy(X, round_),
            X,
            objective=reconstruction_error,
            optimizer=self._optimizer,
            epochs=self._epochs,
            batch_size=self._batch_size,
            seed=self._derive("pretraining", round_),
        )
        return Update(
            weights=copy_of(self.model),
            examples=len(X),
            loss=loss,
            validation=validation,
            seconds=time.perf_counter() - start,
        )

    def _noisy(self, X: Tensor, round_: int) -> Tensor:
        if not self._noise:
            return X
        generator = torch.Generator().manual_seed(self._derive("noise", round_))
        return X + self._noise * torch.randn(X.shape, generator=generator)

    def _derive(self, use: str, round_: int) -> int:
        return derive_seed(self._seed, self._rows.hospital, use, round_)

    def _validate(self) -> Validation:
        X = self._rows.validation.X
        if not len(X):
            return Validation(0, None, None)
        return Validation(len(X), float(reconstruction_error(infer(self.model, X), X)), None)

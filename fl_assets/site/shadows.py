"""Shadow models: a recipe's training, repeated by the hospital alone on halves of its rows."""

from __future__ import annotations

from collections import deque

import numpy as np
import torch
from torch import Tensor, nn

from fl_assets.config import StrictModel
from fl_assets.learning.configs import LocalTraining
from fl_assets.learning.features import Preprocessor
from fl_assets.learning.inputs import Bools, Floats
from fl_assets.learning.losses import build_objective
from fl_assets.learning.models import model_for
from fl_assets.learning.training import derive_seed, predict, train_epochs
from fl_assets.privacy.accounting import noise_multiplier
from fl_assets.privacy.attacks import balanced_halves, confidence
from fl_assets.privacy.configs import PrivacyConfig
from fl_assets.privacy.dpsgd import train_privately
from fl_assets.privacy.noise import SeededNoise
from fl_assets.site.training import Features, copy_of


class ShadowPlan(StrictModel):
    """What a hospital needs to know of a recipe to repeat it alone.

    Attributes:
        training: of one round.
        rounds: one after the other, each from where the last one ended.
        average_rounds: of so many last rounds the mean of the weights is the model.
        privacy: of the whole run, None without.
    """

    training: LocalTraining
    rounds: int = 1
    average_rounds: int = 1
    privacy: PrivacyConfig | None = None


class ShadowTraining:
    """Trains models as a federation of this one hospital would, and shows none of them.

    The noise of a private recipe comes from the seed: it hides nothing here, since nothing leaves.

    Args:
        plan: of the recipe.
        preprocessor: makes the features.
    """

    def __init__(self, plan: ShadowPlan, preprocessor: Preprocessor) -> None:
        self._plan, self._preprocessor = plan, preprocessor
        prevalence = preprocessor.cohort.label.prevalence
        self._objective = build_objective(plan.training.loss, prevalence)
        if plan.privacy is not None:
            # A shadow has half the rows that the recipe was made for.
            self._privacy = plan.privacy.model_copy(update={"minimum_rows": 1})
            self._noise_multiplier = noise_multiplier(
                plan.privacy.epsilon,
                plan.privacy.delta,
                plan.privacy.sampling_rate,
                plan.rounds * plan.privacy.steps,
            )

    def confidences(self, rows: Features, models: int, seed: int) -> tuple[Floats, Bools]:
        """Train shadow models, each on half of the rows and each row in half of the models.

        Args:
            rows: to be dealt, [n, d].
            models: how many, even.
            seed: of every random choice.

        Returns:
            Confidence of each model in each row's own label [models, n], and whether it was
            trained on the row.
        """
        rng = np.random.default_rng(derive_seed(seed, "halves"))
        inside = balanced_halves(models, len(rows.X), rng)
        found = []
        for number, half in enumerate(inside):
            model = self.train(rows, half, derive_seed(seed, number))
            found.append(confidence(rows.y.numpy(), predict(model, rows.X)))
        return np.array(found), inside

    def train(self, rows: Features, chosen: Bools, seed: int) -> nn.Module:
        """Train one model on the chosen rows [n] of all [n, d].

        Its first weights are the recipe's, which whoever attacks the recipe knows as well.
        """
        plan = self._plan
        model = model_for(plan.training.model, self._preprocessor, plan.training.seed)
        kept = torch.from_numpy(chosen)
        X, y = rows.X[kept], rows.y[kept]
        last: deque[dict[str, Tensor]] = deque(maxlen=plan.average_rounds)
        for round_ in range(plan.rounds):
            self._train_round(model, X, y, derive_seed(seed, round_))
            last.append(copy_of(model))
        model.load_state_dict(
            {name: torch.stack([weights[name] for weights in last]).mean(0) for name in last[0]}
        )
        return model

    def _train_round(self, model: nn.Module, X: Tensor, y: Tensor, seed: int) -> None:
        training = self._plan.training
        if self._plan.privacy is None:
            train_epochs(
                model,
                X,
                y,
                objective=self._objective,
                optimizer=training.optimizer,
                epochs=training.epochs,
                batch_size=training.batch_size,
                seed=seed,
                proximal_mu=training.proximal_mu,
            )
            return
        train_privately(
            model,
            X,
            y,
            objective=self._objective,
            optimizer=training.optimizer,
            privacy=self._privacy,
            noise_multiplier=self._noise_multiplier,
            noise=SeededNoise(seed),
            proximal_mu=training.proximal_mu,
        )

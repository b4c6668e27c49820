"""What is a hospital's own in a federated model: its layers, and in the end a model of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fl_assets.errors import FlAssetsError
from fl_assets.learning import metrics
from fl_assets.learning.configs import ModelConfig
from fl_assets.learning.features import Preprocessor
from fl_assets.learning.models import model_for
from fl_assets.learning.training import predict
from fl_assets.learning.weights import Weights, weights_from_bytes, weights_to_bytes
from fl_assets.site.client_state import ClientState, Phase
from fl_assets.site.partitions import load_manifest
from fl_assets.site.training import load_features
from fl_assets.storage import ObjectNotFoundError, SiteStore


class OtherModelError(FlAssetsError):
    """The server sent weights of another model than the recipe's."""

    def __init__(self, differing: int) -> None:
        super().__init__(
            f"the server sent weights of another model, {differing} names differ: bring server "
            "and site to the same version of the software"
        )


class KeptLayers:
    """The layers of a model that stay at a site, in one phase of a run.

    In the manner of FedBN (Li et al. 2021, algorithm 1): they take part in local training, but
    neither go to the server nor come from it. Without any it degenerates to plain federated
    training, and nothing is stored.

    Args:
        phase: of the run.
        names: of the parameters that stay.
        first: the whole model's first values, from which a site that has no state begins.
        state: where they are kept between rounds.
    """

    def __init__(
        self, phase: Phase, names: Iterable[str], first: Mapping[str, Tensor], state: ClientState
    ) -> None:
        self._phase = phase
        self._state = state
        self._names = frozenset(names)
        self._first = {name: w.clone() for name, w in first.items() if name in self._names}
        self._shared = first.keys() - self._names

    def join(
        self, shared: Mapping[str, Tensor], round_: int, answered: Weights | None = None
    ) -> dict[str, Tensor]:
        """Return the whole model with which this site enters a round.

        Args:
            shared: the server's part of it.
            round_: the round; its layers are those that the last round before it left.
            answered: holds the site's layers where their states are gone already.

        Raises:
            OtherModelError: the server's part is not the one expected.
        """
        kept = self._state.before(self._phase, round_) if self._names else None
        return self.complete(shared, kept or answered or {})

    def complete(
        self, shared: Mapping[str, Tensor], kept: Weights | None = None
    ) -> dict[str, Tensor]:
        """Return the whole model, with first values for local layers that are not kept.

        Raises:
            OtherModelError: the server's part is not the one expected.
        """
        differing = shared.keys() ^ self._shared
        if differing:
            raise OtherModelError(len(differing))
        found = kept or {}
        own = {n: torch.from_numpy(found[n]) if n in found else w for n, w in self._first.items()}
        return {**shared, **own}

    def split(self, weights: Mapping[str, Tensor], round_: int) -> dict[str, Tensor]:
        """Keep the site's layers of a trained model; return what may leave."""
        if self._names:
            own = {name: weights[name].numpy() for name in self._names}
            self._state.keep(self._phase, round_, own)
        return {name: w for name, w in weights.items() if name not in self._names}


def save_personal(store: SiteStore, run: str, weights: Mapping[str, Tensor]) -> None:
    """Store the hospital's personal model of a run, which never leaves it."""
    store.put(_key(run), weights_to_bytes({name: w.numpy() for name, w in weights.items()}))


def load_personal(store: SiteStore, run: str) -> Weights | None:
    """Return the hospital's personal model of a run, None where it has none."""
    try:
        return weights_from_bytes(store.get(_key(run)))
    except ObjectNotFoundError:
        return None


@dataclass(frozen=True)
class OwnModel:
    """A hospital's personal model.

    Attributes:
        scorer: from features [n, d] to probabilities [n].
        threshold: at 80 % specificity on the hospital's validation rows, None where no row there
            is healthy.
    """

    scorer: Callable[[NDArray[np.float32]], NDArray[np.float64]]
    threshold: float | None


def load_own_model(
    store: SiteStore, run: str, config: ModelConfig, preprocessor: Preprocessor
) -> OwnModel | None:
    """Return the hospital's personal model of a run, ready to score; None where it has none.

    Args:
        store: the hospital's.
        run: of which it is.
        config: of the run's recipe.
        preprocessor: of the run.

    Raises:
        ObjectNotFoundError: the partitions were never built.
    """
    weights = load_personal(store, run)
    if weights is None:
        return None
    # The seed does not matter: the first weights are overwritten.
    model = model_for(config, preprocessor, seed=0)
    model.load_state_dict({name: torch.from_numpy(w) for name, w in weights.items()})
    rows = load_features(store, load_manifest(store), "validation", preprocessor)
    threshold = None
    if len(rows.X):
        scores = predict(model, rows.X)
        threshold = metrics.threshold_at_specificity(rows.y.numpy(), scores, 0.8)
    return OwnModel(lambda X: predict(model, torch.from_numpy(X)), threshold)


def _key(run: str) -> str:
    return f"personal/{run}.npz"

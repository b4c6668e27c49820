"""Flower's own strategies, set up as a recipe asks and adapted where Flower falls short."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import (
    FedAdagrad,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedMedian,
    FedProx,
    FedTrimmedAvg,
    FedYogi,
    Krum,
)

from fl_assets.federation.job import FederationError
from fl_assets.federation.recipe import Recipe
from fl_assets.federation.strategies.configs import (
    FedAdagradConfig,
    FedAdamConfig,
    FedAvgConfig,
    FedAvgMConfig,
    FedProxConfig,
    FedYogiConfig,
    KrumConfig,
    MedianConfig,
    StrategyConfig,
    TrimmedMeanConfig,
)
from fl_assets.privacy.masking.roster import MINIMUM_SITES


class TooFewSitesError(FederationError):
    """The run has fewer sites than its quorum."""

    def __init__(self, sites: int, quorum: int) -> None:
        super().__init__(
            f"the run has {sites} sites and needs {quorum}: bring hospitals in, or lower `quorum` "
            "in the recipe"
        )


class TooFewUpdatesError(FederationError):
    """A robust strategy that cannot keep its promise with the updates that a round may have."""

    def __init__(self, strategy: str, needed: int, quorum: int, sites: int) -> None:
        super().__init__(
            f"{strategy} needs {needed} updates in every round and this run of {sites} sites may "
            f"have as few as {quorum}: bring hospitals in, raise `quorum` or `fraction`, or choose "
            "a strategy (or for krum fewer `malicious`) that needs less"
        )


class TooFewForSumsError(FederationError):
    """Masked sums over so few sites that each could tell another one's part."""

    def __init__(self, sites: int) -> None:
        super().__init__(
            f"a round of this run has {sites} sites and `secure_aggregation` needs "
            f"{MINIMUM_SITES}: bring hospitals in, raise `fraction` or `quorum`, or leave "
            "`secure_aggregation` out of the recipe"
        )


def sites_asked(recipe: Recipe, sites: int) -> int:
    """Return how many of a run's sites are asked in a round."""
    # Rounded, since 0.1 of 30 sites is 3.0000000000000004 in floating point.
    wanted = math.ceil(round(recipe.fraction * sites, 9))
    return max(recipe.quorum or 1, wanted)


def quorum_of(recipe: Recipe, sites: int) -> int:
    """Return how many updates must arrive in a round of a run over so many sites."""
    return recipe.quorum or sites_asked(recipe, sites)


def build_strategy(recipe: Recipe, sites: int) -> FedAvg:
    """Return Flower's strategy for a recipe over so many sites.

    It samples every node it is shown: who is asked is decided before it.

    Raises:
        TooFewSitesError: fewer sites than the quorum.
        TooFewUpdatesError: a round may have too few updates for a robust strategy.
        TooFewForSumsError: a round has too few sites for masked sums.
    """
    quorum = quorum_of(recipe, sites)
    if sites < quorum:
        raise TooFewSitesError(sites, quorum)
    needed = _updates_needed(recipe.strategy)
    if quorum < needed:
        raise TooFewUpdatesError(recipe.strategy.kind, needed, quorum, sites)
    asked = min(sites, sites_asked(recipe, sites))
    if recipe.secure_aggregation is not None and asked < MINIMUM_SITES:
        raise TooFewForSumsError(asked)
    strategy = _build(recipe.strategy)
    # Flower waits for ever below these.
    strategy.min_train_nodes = strategy.min_evaluate_nodes = strategy.min_available_nodes = 1
    return strategy


def _updates_needed(asked: StrategyConfig) -> int:
    if isinstance(asked, KrumConfig):
        return 2 * asked.malicious + 3
    return 3 if isinstance(asked, TrimmedMeanConfig) and asked.trim else 1


def _build(asked: StrategyConfig) -> FedAvg:
    match asked:
        case FedAvgConfig():
            return FedAvg()
        case FedProxConfig():
            return FedProx(proximal_mu=asked.mu)
        case FedAvgMConfig():
            return FedAvgM(server_learning_rate=asked.server_lr, server_momentum=asked.momentum)
        case FedAdamConfig():
            return FedAdam(
                eta=asked.server_lr, beta_1=asked.beta_1, beta_2=asked.beta_2, tau=asked.tau
            )
        case FedYogiConfig():
            return FedYogi(
                eta=asked.server_lr, beta_1=asked.beta_1, beta_2=asked.beta_2, tau=asked.tau
            )
        case FedAdagradConfig():
            return FedAdagrad(eta=asked.server_lr, tau=asked.tau)
        case MedianConfig():
            return FedMedian()
        case TrimmedMeanConfig():
            return TrimmedMean(asked.trim)
        case KrumConfig():
            return ExactKrum(num_malicious_nodes=asked.malicious)


class TrimmedMean(FedTrimmedAvg):
    """Flower's trimmed mean, which always trims.

    Of n updates Flower cuts ``floor(trim * n)`` at each end: with 3 hospitals and 0.25, or with 4
    of which one is out, none, and one hostile update then moves the mean as far as it likes.

    Args:
        trim: fraction cut off at each end; above 0 at least one update is.
    """

    def __init__(self, trim: float) -> None:
        super().__init__()
        self._trim = trim

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Aggregate at least 3 updates, or any number where nothing is to be cut."""
        updates = list(replies)
        if self._trim:
            cut = max(1, int(self._trim * len(updates)))
            # Flower takes the whole part of beta times n, which must not fall below ``cut``.
            self.beta = (cut + 0.25) / len(updates)
        else:
            self.beta = 0.0
        return super().aggregate_train(server_round, updates)


class ExactKrum(Krum):
    """Flower's Krum on float64.

    Flower computes distances as ``|x|^2 + |y|^2 - 2xy`` in the updates' own float32, where the
    differences between hospitals drown in rounding once weights are a thousand times larger.
    """

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Return the chosen update, as float64."""
        return super().aggregate_train(server_round, [_in_float64(reply) for reply in replies])


def _in_float64(reply: Message) -> Message:
    content = RecordDict(dict(reply.content))
    for key, arrays in reply.content.array_records.items():
        content[key] = ArrayRecord(
            {name: Array(array.numpy().astype(np.float64)) for name, array in arrays.items()}
        )
    return Message(content, reply_to=reply)

"""What a recipe may ask of aggregation, without importing Flower."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fl_assets.config import StrictModel

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


class FedAvgConfig(StrictModel):
    """Weighted mean of the sites' weights by training rows (McMahan et al. 2017, algorithm 1)."""

    kind: Literal["fedavg"] = "fedavg"


class ProximalConfig(StrictModel):
    """A strategy whose sites may have FedProx's proximal term.

    Attributes:
        mu: weight of the term, 0 for none.
    """

    mu: NonNegative = 0.0


class FedProxConfig(ProximalConfig):
    """FedAvg with a proximal term at the sites (Li et al. 2020, algorithm 2).

    With ``mu`` 0 it degenerates to FedAvg.
    """

    kind: Literal["fedprox"] = "fedprox"
    mu: NonNegative = 0.1


class FedAvgMConfig(StrictModel):
    """FedAvg with momentum at the server (Hsu et al. 2019, section 4.3).

    ``v = momentum * v + (global - mean)``, then ``global - server_lr * v``.

    Attributes:
        server_lr: 1 with ``momentum`` 0 degenerates to FedAvg.
        momentum: of the server.
    """

    kind: Literal["fedavgm"] = "fedavgm"
    server_lr: Positive = 1.0
    momentum: Fraction = 0.9


class _AdaptiveConfig(ProximalConfig):
    """An adaptive server optimiser (Reddi et al. 2021, algorithm 2).

    The mean update is the gradient: ``global + server_lr * m / (sqrt(v) + tau)``. As in Flower,
    both moments begin at 0, where the paper lets ``v`` begin at ``tau ** 2`` or more.

    Attributes:
        server_lr: step of the server.
        beta_1, beta_2: decay of the first and the second moment.
        tau: degree of adaptivity; the larger, the nearer to plain momentum.
    """

    server_lr: Positive = 0.05
    beta_1: Fraction = 0.9
    beta_2: Fraction = 0.99
    tau: Positive = 1e-3


class FedAdamConfig(_AdaptiveConfig):
    """Adam at the server; fields as of every adaptive optimiser.

    As in Flower, the step is corrected for the moments' beginning at 0 (Kingma & Ba 2015, end of
    section 2), with t one more than the round, which makes the first steps smaller.
    """

    kind: Literal["fedadam"] = "fedadam"


class FedYogiConfig(_AdaptiveConfig):
    """Yogi at the server, whose second moment grows more slowly than Adam's."""

    kind: Literal["fedyogi"] = "fedyogi"


class FedAdagradConfig(ProximalConfig):
    """Adagrad at the server (Reddi et al. 2021, algorithm 2): the second moment only grows.

    Attributes:
        server_lr, tau: as of the other adaptive optimisers.
    """

    kind: Literal["fedadagrad"] = "fedadagrad"
    server_lr: Positive = 0.05
    tau: Positive = 1e-3


class MedianConfig(ProximalConfig):
    """Median of every weight over the sites (Yin et al. 2018, algorithm 1, option I).

    Ignores how many rows a site has. Holds against fewer than half of the sites.
    """

    kind: Literal["median"] = "median"


class TrimmedMeanConfig(ProximalConfig):
    """Mean of every weight without its extremes (Yin et al. 2018, algorithm 1, option II).

    Ignores how many rows a site has. Of n updates ``floor(trim * n)`` are cut off at each end, but
    at least one, since nothing cut off would be a plain mean: 3 hospitals at 0.25, or 4 of which
    one is out. Holds against as many sites as are cut off at one end; needs 3 in a round.

    Attributes:
        trim: fraction cut off at each end; 0 degenerates to an unweighted mean.
    """

    kind: Literal["trimmed_mean"] = "trimmed_mean"
    trim: Annotated[float, Field(ge=0, lt=0.5)] = 0.25


class KrumConfig(ProximalConfig):
    """The one update nearest to its neighbours (Blanchard et al. 2017, section 4).

    Nearest by the sum of squared distances to the ``n - malicious - 2`` updates next to it. Ignores
    how many rows a site has, and every other site's work of the round is thrown away.

    Attributes:
        malicious: sites it must hold against; Krum needs ``2 * malicious + 3`` in a round.
    """

    kind: Literal["krum"] = "krum"
    malicious: Annotated[int, Field(ge=0)] = 0


StrategyConfig = Annotated[
    FedAvgConfig
    | FedProxConfig
    | FedAvgMConfig
    | FedAdamConfig
    | FedYogiConfig
    | FedAdagradConfig
    | MedianConfig
    | TrimmedMeanConfig
    | KrumConfig,
    Field(discriminator="kind"),
]


class NormBound(StrictModel):
    """How far an update may be from the global model it began with.

    Attributes:
        absolute: largest L2 norm of the difference; no such bound if None.
        relative: largest multiple of the median norm of the round's updates; a hospital's update
            is normally within a factor of 2 or 3 of it. No such bound if None; needs 3 updates.
    """

    absolute: Positive | None = None
    relative: Annotated[float, Field(gt=1, allow_inf_nan=False)] | None = 10.0

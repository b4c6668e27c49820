"""What a recipe may ask of learning: models and optimisers, without importing torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from fl_assets.config import StrictModel


class LogisticRegressionConfig(StrictModel):
    """One linear layer, started at zero weights and the logit of the public prevalence."""

    kind: Literal["logistic_regression"] = "logistic_regression"


class MLPConfig(StrictModel):
    """Linear layers with ReLU between them.

    Attributes:
        hidden: width of each hidden layer; with none it degenerates to a logistic regression
            with random first weights.
    """

    kind: Literal["mlp"] = "mlp"
    hidden: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = (64, 32)


ModelConfig = Annotated[LogisticRegressionConfig | MLPConfig, Field(discriminator="kind")]


class OptimizerConfig(StrictModel):
    """The site's optimiser, fresh in every round.

    Attributes:
        kind: ``sgd`` or ``adam``.
        lr: learning rate.
        momentum: of SGD alone.
        weight_decay: weight of the L2 penalty ``weight_decay / 2 * ||w||^2``.
    """

    kind: Literal["sgd", "adam"] = "sgd"
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.03
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0

    @model_validator(mode="after")
    def _momentum_belongs_to_sgd(self) -> OptimizerConfig:
        if self.kind != "sgd" and self.momentum:
            raise ValueError(f"momentum is for sgd, not {self.kind}: leave it out")
        return self


class LocalTraining(StrictModel):
    """What a site does in one round.

    Attributes:
        model: which network.
        optimizer: fresh in every round.
        epochs: passes over the site's rows.
        batch_size: rows per step.
        proximal_mu: weight of FedProx's term, 0 for none.
        seed: of the first weights and, with hospital and round, of the shuffles.
    """

    model: ModelConfig
    optimizer: OptimizerConfig
    epochs: int
    batch_size: int
    proximal_mu: float
    seed: int

"""What a recipe may ask of learning: models, losses and optimisers, without importing torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from fl_assets.config import StrictModel

Width = Annotated[int, Field(ge=1, le=4096)]
Norm = Literal["none", "layer"]
"""BatchNorm is not on offer: its running statistics break under averaging (AUROC 0.736 measured on
the stroke data against 0.826 without) and its batches mix patients, which rules out DP-SGD."""


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
    hidden: tuple[Width, ...] = (64, 32)


class EmbeddingConfig(StrictModel):
    """An encoder of blocks (linear, norm, ReLU) and a linear head on its output, the embedding.

    Attributes:
        encoder: width of each block; the last is the embedding's.
        norm: in every block, before the ReLU.
    """

    kind: Literal["embedding"] = "embedding"
    encoder: Annotated[tuple[Width, ...], Field(min_length=1)] = (128, 64, 64, 32)
    norm: Norm = "layer"


class EarlyFusionConfig(StrictModel):
    """Each feature group is projected to one width, the projections are joined, then an MLP.

    Attributes:
        projection: width of each group's projection.
        hidden: of the network on the joined projections.
        norm: after each projection.
    """

    kind: Literal["early_fusion"] = "early_fusion"
    projection: Width = 16
    hidden: tuple[Width, ...] = (32,)
    norm: Norm = "none"


class LateFusionConfig(StrictModel):
    """A network for each feature group with a logit of its own; the logits' sum is the answer.

    With no hidden layer it degenerates to a logistic regression, since a sum of linear functions
    of the groups is one of all features.

    Attributes:
        hidden: of each group's network.
        norm: of each group's network.
    """

    kind: Literal["late_fusion"] = "late_fusion"
    hidden: tuple[Width, ...] = (16,)
    norm: Norm = "none"


class AttentionFusionConfig(StrictModel):
    """Feature groups as tokens; attention pools them into one vector for a linear head.

    Attributes:
        projection: width of a token.
        hidden: of the head's network.
        norm: after each projection.
    """

    kind: Literal["attention_fusion"] = "attention_fusion"
    projection: Width = 16
    hidden: tuple[Width, ...] = ()
    norm: Norm = "none"


ModelConfig = Annotated[
    LogisticRegressionConfig
    | MLPConfig
    | EmbeddingConfig
    | EarlyFusionConfig
    | LateFusionConfig
    | AttentionFusionConfig,
    Field(discriminator="kind"),
]


class BCEConfig(StrictModel):
    """Binary cross-entropy on logits: keeps the probabilities honest, hence the default."""

    kind: Literal["bce"] = "bce"


class WeightedBCEConfig(StrictModel):
    """Binary cross-entropy with a weight on the rows of label 1.

    It shifts every probability upwards, so calibration is lost; for more sensitivity move the
    threshold instead.

    Attributes:
        positive_weight: 1 degenerates to ``bce``; the odds of label 0 by the cohort's public
            prevalence if None, so that both classes weigh the same.
    """

    kind: Literal["weighted_bce"] = "weighted_bce"
    positive_weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None


class FocalConfig(StrictModel):
    """Focal loss (Lin et al. 2017, equations 4 and 5); loses calibration as well.

    Attributes:
        gamma: how far easy rows are discounted; 0 degenerates to a weighted cross-entropy.
        alpha: weight of label 1, ``1 - alpha`` that of label 0; both 1 if None.
    """

    kind: Literal["focal"] = "focal"
    gamma: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 2.0
    alpha: Annotated[float, Field(gt=0, lt=1)] | None = None


LossConfig = Annotated[BCEConfig | WeightedBCEConfig | FocalConfig, Field(discriminator="kind")]


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
        loss: what it minimises.
        optimizer: fresh in every round.
        epochs: passes over the site's rows.
        batch_size: rows per step.
        proximal_mu: weight of FedProx's term, 0 for none.
        seed: of the first weights and, with hospital and round, of the shuffles.
    """

    model: ModelConfig
    loss: LossConfig
    optimizer: OptimizerConfig
    epochs: int
    batch_size: int
    proximal_mu: float
    seed: int

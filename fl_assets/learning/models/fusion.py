"""Fusion models: every feature group goes through layers of its own before they meet."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from fl_assets.learning.configs import AttentionFusionConfig, EarlyFusionConfig, LateFusionConfig
from fl_assets.learning.models.embedding import EmbeddingModel
from fl_assets.learning.models.layers import blocks, logit_layer, network

Groups = Sequence[Sequence[int]]
"""Columns of the feature matrix, by feature group."""


class GroupSplit(nn.Module):
    """Features [n, d] to one tensor [n, d_g] per group g; has no weights."""

    order: Tensor

    def __init__(self, groups: Groups) -> None:
        super().__init__()
        self.sizes = [len(group) for group in groups]
        # No weight, so it must not be in the state dict that goes over the wire.
        self.register_buffer(
            "order", torch.tensor(list(itertools.chain(*groups))), persistent=False
        )

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Split the columns, with one gather for all groups."""
        return torch.split(x.index_select(1, self.order), self.sizes, dim=1)


class GroupTokens(nn.Module):
    """Features [n, d] to tokens [n, G, width]: linear, norm and ReLU for each of G groups."""

    def __init__(self, groups: Groups, config: EarlyFusionConfig | AttentionFusionConfig) -> None:
        super().__init__()
        self.split = GroupSplit(groups)
        self.projections = nn.ModuleList(
            nn.Sequential(*blocks((len(group), config.projection), config.norm)) for group in groups
        )

    def forward(self, x: Tensor) -> Tensor:
        """Project every group."""
        parts = zip(self.projections, self.split(x), strict=True)
        return torch.stack([projection(part) for projection, part in parts], dim=1)


class AttentionPooling(nn.Module):
    """Tokens [n, G, width] to their weighted mean [n, width].

    The weights are ``softmax_g(w . tanh(V h_g + b))`` (Ilse et al. 2018, section 2.4, equation 8,
    with a bias). They degenerate to plain averaging where ``w`` is 0.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        # A bias on the scores would cancel in the softmax.
        self.score = nn.Sequential(
            nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1, bias=False)
        )

    def weights(self, tokens: Tensor) -> Tensor:
        """Return the weight of each token, [n, G]; the rows sum to 1."""
        scores: Tensor = self.score(tokens)
        return scores.squeeze(2).softmax(dim=1)

    def forward(self, tokens: Tensor) -> Tensor:
        """Pool the tokens."""
        return (self.weights(tokens).unsqueeze(2) * tokens).sum(dim=1)


class AttentionFusion(EmbeddingModel):
    """An embedding model whose encoder pools the groups' tokens by attention."""

    def attention(self, x: Tensor) -> Tensor:
        """Return how much each group counts, [n, G], for rows [n, d]; the rows sum to 1."""
        tokens, pooling = self.encoder[0], cast(AttentionPooling, self.encoder[1])
        return pooling.weights(tokens(x))


class LateFusion(nn.Module):
    """A network for each group; its logits [n, 1] for rows [n, d] are the networks' sum."""

    def __init__(self, groups: Groups, config: LateFusionConfig, start: float) -> None:
        super().__init__()
        self.split = GroupSplit(groups)
        self.networks = nn.ModuleList(
            network((len(group), *config.hidden), config.norm, start / len(groups))
            for group in groups
        )

    def forward(self, x: Tensor) -> Tensor:
        """Add the groups' logits."""
        parts = zip(self.networks, self.split(x), strict=True)
        return torch.stack([network(part) for network, part in parts]).sum(dim=0)


def early_fusion(groups: Groups, config: EarlyFusionConfig, start: float) -> EmbeddingModel:
    """Return the model whose head's bias is ``start``."""
    widths = (config.projection * len(groups), *config.hidden)
    encoder = nn.Sequential(
        OrderedDict(
            tokens=GroupTokens(groups, config),
            join=nn.Flatten(),
            hidden=nn.Sequential(*blocks(widths, "none")),
        )
    )
    return EmbeddingModel(OrderedDict(encoder=encoder, head=logit_layer(widths[-1], start)))


def attention_fusion(
    groups: Groups, config: AttentionFusionConfig, start: float
) -> AttentionFusion:
    """Return the model whose head's bias is ``start``."""
    widths = (config.projection, *config.hidden)
    encoder = nn.Sequential(
        OrderedDict(
            tokens=GroupTokens(groups, config),
            pooling=AttentionPooling(config.projection),
            hidden=nn.Sequential(*blocks(widths, "none")),
        )
    )
    return AttentionFusion(OrderedDict(encoder=encoder, head=logit_layer(widths[-1], start)))

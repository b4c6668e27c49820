"""Models with an embedding, and the autoencoder that pre-trains an encoder without labels."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from fl_assets.learning.configs import Norm
from fl_assets.learning.models.layers import blocks, logit_layer

# Both are Sequential, so that whoever looks for a chain of layers finds one.


class EmbeddingModel(nn.Sequential):
    """An encoder and a linear head on its output, the embedding: [n, d] to [n, 1] logits."""

    encoder: nn.Sequential
    head: nn.Linear

    def embeddings(self, x: Tensor) -> Tensor:
        """Return the embedding [n, width] of rows [n, d]."""
        embedded: Tensor = self.encoder(x)
        return embedded


class Autoencoder(nn.Sequential):
    """An encoder and its mirror image, back to the features: [n, d] to [n, d].

    The encoder's parameters have the names and shapes that they have in the embedding model, under
    ``encoder.``; the decoder's are under ``decoder.``.
    """

    encoder: nn.Sequential
    decoder: nn.Sequential


def embedding(features: int, widths: Sequence[int], norm: Norm, start: float) -> EmbeddingModel:
    """Return the model whose head's bias is ``start``."""
    encoder = nn.Sequential(*blocks((features, *widths), norm))
    return EmbeddingModel(OrderedDict(encoder=encoder, head=logit_layer(widths[-1], start)))


def autoencoder(features: int, widths: Sequence[int], norm: Norm) -> Autoencoder:
    """Return the autoencoder of that model's encoder."""
    encoder = nn.Sequential(*blocks((features, *widths), norm))
    # Features may be negative, so nothing follows the last linear layer.
    back = (*blocks(widths[::-1], "none"), nn.Linear(widths[0], features))
    return Autoencoder(OrderedDict(encoder=encoder, decoder=nn.Sequential(*back)))

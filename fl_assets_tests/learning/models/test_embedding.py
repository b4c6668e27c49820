import pytest
import torch
from torch import nn
from torch.nn import functional

from fl_assets.learning.configs import EmbeddingConfig, Norm
from fl_assets.learning.losses import reconstruction_error
from fl_assets.learning.models import EmbeddingModel, build_autoencoder, build_model

FEATURES = 12
ROWS = torch.randn(9, FEATURES, generator=torch.Generator().manual_seed(0))


def embedding(config: EmbeddingConfig, seed: int = 1) -> EmbeddingModel:
    model = build_model(config, {"all": range(FEATURES)}, 0.05, seed)
    assert isinstance(model, EmbeddingModel)
    return model


def linear_shapes(module: nn.Module) -> list[tuple[int, int]]:
    layers = [m for m in module.modules() if isinstance(m, nn.Linear)]
    return [(layer.in_features, layer.out_features) for layer in layers]


def test_the_default_shape() -> None:
    shapes = linear_shapes(embedding(EmbeddingConfig()))
    assert shapes == [(12, 128), (128, 64), (64, 64), (64, 32), (32, 1)]


@pytest.mark.parametrize("norm", ["none", "layer"])
def test_embedding_and_logit_by_hand(norm: Norm) -> None:
    model = embedding(EmbeddingConfig(encoder=(6, 3), norm=norm))
    weights = list(model.parameters())
    hidden = ROWS
    for width in (6, 3):
        hidden = hidden @ weights.pop(0).T + weights.pop(0)
        if norm == "layer":
            hidden = functional.layer_norm(hidden, (width,), weights.pop(0), weights.pop(0))
        hidden = hidden.clamp(min=0)

    torch.testing.assert_close(model.embeddings(ROWS), hidden)
    assert model.embeddings(ROWS).shape == (9, 3)
    torch.testing.assert_close(model(ROWS), hidden @ weights[0].T + weights[1])


@pytest.mark.parametrize("norm", ["none", "layer"])
def test_an_autoencoders_encoder_is_the_embedding_models(norm: Norm) -> None:
    config = EmbeddingConfig(encoder=(6, 3), norm=norm)
    model, pretrainer = embedding(config, seed=4), build_autoencoder(config, FEATURES, seed=4)

    ours, theirs = model.state_dict(), pretrainer.state_dict()
    encoder = [name for name in theirs if name.startswith("encoder.")]
    assert encoder == [name for name in ours if name.startswith("encoder.")]
    assert all(torch.equal(ours[name], theirs[name]) for name in encoder)
    assert all(name.startswith("decoder.") for name in set(theirs) - set(encoder))
    assert {name for name in ours if name not in encoder} == {"head.weight", "head.bias"}
    assert torch.equal(pretrainer.encoder(ROWS), model.embeddings(ROWS))


def test_a_decoder_mirrors_the_encoder_and_may_give_negative_features() -> None:
    pretrainer = build_autoencoder(EmbeddingConfig(), FEATURES, seed=1)

    assert linear_shapes(pretrainer.decoder) == [(32, 64), (64, 64), (64, 128), (128, 12)]
    assert pretrainer(ROWS).shape == ROWS.shape
    assert (pretrainer(ROWS) < 0).any()


def test_training_an_autoencoder_reconstructs_rows() -> None:
    # Rows of two dimensions, so that a narrow embedding can hold them.
    flat = ROWS[:, :2] @ torch.randn(2, FEATURES, generator=torch.Generator().manual_seed(1))
    pretrainer = build_autoencoder(EmbeddingConfig(encoder=(16, 4)), FEATURES, seed=1)
    descent = torch.optim.Adam(pretrainer.parameters(), lr=0.01)

    for _ in range(300):
        descent.zero_grad()
        reconstruction_error(pretrainer(flat), flat).backward()
        descent.step()

    left = reconstruction_error(pretrainer(flat), flat).item()
    assert left < 0.1 * flat.var(dim=0, correction=0).mean().item()


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    build_autoencoder(EmbeddingConfig(), FEATURES, seed=1)
    assert torch.equal(before, torch.get_rng_state())

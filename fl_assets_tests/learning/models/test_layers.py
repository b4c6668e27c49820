from torch import nn

from fl_assets.learning.models.layers import blocks


def test_a_norm_comes_before_the_relu() -> None:
    plain, normed = blocks((7, 5, 3), "none"), blocks((7, 5, 3), "layer")

    assert [type(layer) for layer in plain] == [nn.Linear, nn.ReLU] * 2
    assert [type(layer) for layer in normed] == [nn.Linear, nn.LayerNorm, nn.ReLU] * 2
    assert [n.normalized_shape for n in normed if isinstance(n, nn.LayerNorm)] == [(5,), (3,)]
    assert blocks((7,), "layer") == []

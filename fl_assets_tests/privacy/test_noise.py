import pytest
import torch
from scipy import stats
from torch import Tensor

from fl_assets.privacy.noise import NoiseSource, SecureNoise, SeededNoise

MANY = 300_000
FALSE_ALARM = 1e-6


@pytest.fixture(params=["seeded", "secure"])
def noise(request: pytest.FixtureRequest) -> NoiseSource:
    """Fixed draws, and draws that differ from run to run and may fail one time in a million."""
    return SeededNoise(7) if request.param == "seeded" else SecureNoise()


def is_normal(draws: Tensor) -> bool:
    return stats.kstest(draws.flatten().numpy(), "norm").pvalue > FALSE_ALARM


def test_it_is_normal_in_one_draw_and_in_many(noise: NoiseSource) -> None:
    assert is_normal(noise.normal((MANY // 100, 100)))
    assert is_normal(torch.cat([noise.normal((17,)) for _ in range(20_000)]))


def test_its_tails_are_as_long_as_they_should_be(noise: NoiseSource) -> None:
    draws = noise.normal((MANY,))
    for limit in (2.0, 3.0, 4.0):
        for beyond in (draws > limit, draws < -limit):
            chance = stats.binomtest(int(beyond.sum()), MANY, float(stats.norm.sf(limit)))
            assert chance.pvalue > FALSE_ALARM


def test_no_draw_depends_on_another(noise: NoiseSource) -> None:
    draws = noise.normal((MANY,))
    # Box and Muller make pairs that lie half a block apart; a block has a power of two or all.
    for lag in (1, 2, 16, 17, 512, 1024, 8192, MANY // 2):
        correlation = stats.pearsonr(draws[:-lag].numpy(), draws[lag:].numpy())
        assert correlation.pvalue > FALSE_ALARM
        squares = stats.pearsonr(draws[:-lag].square().numpy(), draws[lag:].square().numpy())
        assert squares.pvalue > FALSE_ALARM


def test_nothing_is_handed_out_twice(noise: NoiseSource) -> None:
    draws = torch.cat([noise.normal((count,)) for count in (17, 1, 3000, 17, 5, 40_000, 17, 2)])
    assert len(draws.unique()) == len(draws)


def test_shapes(noise: NoiseSource) -> None:
    for shape in ((), (0,), (3,), (2, 0), (4, 5), torch.Size([7, 1, 2])):
        drawn = noise.normal(shape)
        assert drawn.shape == torch.Size(shape)
        assert drawn.dtype == torch.float64


@pytest.mark.parametrize("rate", [0.01, 0.3, 0.9])
def test_rows_are_chosen_one_by_one(noise: NoiseSource, rate: float) -> None:
    chosen = torch.stack([noise.chosen(500, rate) for _ in range(400)])
    assert chosen.dtype == torch.bool
    assert stats.binomtest(int(chosen.sum()), chosen.numel(), rate).pvalue > FALSE_ALARM
    # The number of chosen rows is binomial, neither fixed nor more scattered.
    counts = chosen.sum(1).double()
    dispersion = float(((counts - 500 * rate) ** 2).sum()) / (500 * rate * (1 - rate))
    for tail in (stats.chi2.cdf, stats.chi2.sf):
        assert tail(dispersion, 400) > FALSE_ALARM


def test_a_rate_of_one_takes_every_row_and_no_row_is_no_trouble(noise: NoiseSource) -> None:
    assert noise.chosen(10_000, 1.0).all()
    assert noise.chosen(0, 0.5).shape == (0,)


def test_a_seed_repeats_its_draws() -> None:
    first, second, other = SeededNoise(1), SeededNoise(1), SeededNoise(2)
    assert torch.equal(first.normal((50,)), second.normal((50,)))
    assert torch.equal(first.chosen(50, 0.5), second.chosen(50, 0.5))
    assert not torch.equal(first.normal((50,)), other.normal((50,)))


def test_nobody_repeats_secure_draws() -> None:
    assert not torch.equal(SecureNoise().normal((50,)), SecureNoise().normal((50,)))

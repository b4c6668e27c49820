import torch

from fl_assets.learning.minibatches import Minibatches

X = torch.arange(22.0).view(11, 2)


def test_every_epoch_holds_every_row_once_beside_its_target() -> None:
    batches = Minibatches(X, X[:, 0] / 2, size=4, seed=1)
    orders = []
    for _ in range(2):
        batches.shuffle()
        assert [len(x) for x, _ in batches.batches] == [4, 4, 3]
        rows = torch.cat([x for x, _ in batches.batches])
        targets = torch.cat([y for _, y in batches.batches])
        assert targets.shape == (11, 1)
        assert torch.equal(targets, batches.targets)
        assert torch.equal(targets[:, 0], rows[:, 0] / 2)
        assert torch.equal(rows[rows[:, 0].argsort()], X)
        orders.append(rows[:, 0].tolist())
    assert orders[0] != orders[1]


def test_the_shuffles_are_those_of_the_seed() -> None:
    batches = Minibatches(X, X, size=4, seed=7)
    generator = torch.Generator().manual_seed(7)
    for _ in range(2):
        batches.shuffle()
        assert torch.equal(batches.targets, X[torch.randperm(11, generator=generator)])
    assert torch.equal(X, torch.arange(22.0).view(11, 2))

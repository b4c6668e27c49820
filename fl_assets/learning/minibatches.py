"""Shuffled minibatches on index tensors."""

from __future__ import annotations

import torch
from torch import Tensor


class Minibatches:
    """The rows of a site, shuffled anew for every epoch and cut into batches.

    One gather per epoch into memory that stays, and views per batch that stay as well: a gather
    per batch costs twice as much.

    Args:
        X: float32 [n, d], n > 0.
        targets: float32 [n] or [n, k]; [n] counts as [n, 1].
        size: rows per batch; the last one may have fewer.
        seed: of the shuffles.

    Attributes:
        size: as asked for.
        batches: pairs of X [b, d] and targets [b, k], overwritten by every shuffle.
    """

    def __init__(self, X: Tensor, targets: Tensor, size: int, seed: int) -> None:
        self.size = size
        self._sources = X, targets.unsqueeze(1) if targets.ndim == 1 else targets
        self._shuffled = tuple(torch.empty_like(source) for source in self._sources)
        self._generator = torch.Generator().manual_seed(seed)
        parts = [torch.split(rows, size) for rows in self._shuffled]
        self.batches: list[tuple[Tensor, Tensor]] = list(zip(*parts, strict=True))

    @property
    def targets(self) -> Tensor:
        """Targets of all rows in their present order, [n, k]."""
        return self._shuffled[1]

    def shuffle(self) -> None:
        """Put the rows in the next random order."""
        order = torch.randperm(len(self.targets), generator=self._generator)
        for source, shuffled in zip(self._sources, self._shuffled, strict=True):
            torch.index_select(source, 0, order, out=shuffled)

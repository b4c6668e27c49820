"""Which hospitals are there when a round begins, and which of them are asked."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
from flwr.serverapp import Grid

from fl_assets.federation.recipe import Recipe
from fl_assets.federation.strategies.flower import quorum_of, sites_asked
from fl_assets.learning.training import derive_seed

POLL_SECONDS = 0.2
"""Between two looks at who is online while the quorum is not."""

_ONLINE = ("online", "")  # a grid without a link, such as a simulation's, gives no status


class Attendance:
    """The hospitals of a run, as they come and go.

    A hospital that joins during the run is one of it from then on. It may make up for another
    one, but the quorum stays what it was: nobody who joins can make a run fail.

    Args:
        recipe: for quorum, fraction, seed and deadline.
        hospitals: name by node id, of the whole run as it begins.

    Attributes:
        quorum: updates that must arrive in a round.
        names: by node id, of every hospital so far.
    """

    def __init__(self, recipe: Recipe, hospitals: Mapping[int, str]) -> None:
        self._recipe = recipe
        self.names = dict(hospitals)
        self.quorum = quorum_of(recipe, len(set(hospitals.values())))

    @property
    def hospitals(self) -> set[str]:
        """Every hospital so far, there or not."""
        return set(self.names.values())

    def online(self, grid: Grid) -> dict[str, int]:
        """Return the node of every hospital that is there now, in the order of names."""
        found: dict[str, int] = {}
        for node in grid.get_nodes():
            name = node.name or self.names.get(node.node_id)
            if name and node.status in _ONLINE:
                self.names[node.node_id] = name
                found[name] = node.node_id
        return dict(sorted(found.items()))

    def gather(self, grid: Grid) -> dict[str, int]:
        """Return who is online; while that is below the quorum wait, at most for a deadline."""
        end = time.monotonic() + self._recipe.round_deadline
        while len(online := self.online(grid)) < self.quorum:
            left = end - time.monotonic()
            if left <= 0:
                break
            time.sleep(min(POLL_SECONDS, left))
        return online

    def draw(self, online: Mapping[str, int], round_: int) -> dict[str, int]:
        """Return who of them is asked in a round: the same for the same names, seed and round."""
        names = sorted(online)
        wanted = sites_asked(self._recipe, len(self.hospitals))
        if wanted < len(names):
            random = np.random.default_rng(derive_seed(self._recipe.seed, "sites", round_))
            names = sorted(random.choice(names, wanted, replace=False).tolist())
        return {name: online[name] for name in names}

"""A round of masked sums between honest sites, some of which drop out."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fl_assets.privacy.masking.field import Masked as Vector
from fl_assets.privacy.masking.keys import Scope
from fl_assets.privacy.masking.roster import Dealing, threshold_of
from fl_assets.privacy.masking.server import ServerRound, Unmasked, check_keys
from fl_assets.privacy.masking.site import Advertised, Masked, Shared

SCOPE = Scope("run", 3)
BITS = 32


def names(sites: int) -> list[str]:
    return [f"hospital-{number:02d}" for number in range(sites)]


@dataclass
class Play:
    """A round step by step; each step takes those who are silent from it on."""

    sites: Collection[str]
    threshold: int = 0
    bits: int = BITS
    scope: Scope = SCOPE
    advertised: dict[str, Advertised] = field(default_factory=dict)
    shared: dict[str, Shared] = field(default_factory=dict)
    masked: dict[str, Masked] = field(default_factory=dict)
    dealings: dict[str, Dealing] = field(default_factory=dict)
    vectors: dict[str, Vector] = field(default_factory=dict)
    revealed: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def advertise(self) -> Play:
        self.advertised = {name: Advertised.begin(self.scope, name) for name in self.sites}
        self.keys = {n: check_keys(n, a.public) for n, a in self.advertised.items()}
        self.threshold = self.threshold or threshold_of(0.6, len(self.sites))
        self.server = ServerRound(self.scope, self.keys, self.threshold, self.bits)
        return self

    def share(self, silent: Collection[str] = ()) -> Play:
        for name in set(self.sites) - set(silent):
            self.shared[name], dealing = self.advertised[name].share(self.keys, self.threshold)
            self.dealings[name] = self.server.check_dealing(name, dealing)
        self.sealed = self.server.route(self.dealings)
        return self

    def mask(self, values: Mapping[str, NDArray[np.float64]], silent: Collection[str] = ()) -> Play:
        for name in self.shared.keys() - set(silent):
            self.masked[name], self.vectors[name] = self.shared[name].mask(
                self.sealed[name], values[name], self.bits
            )
        return self

    def unmask(self, silent: Collection[str] = ()) -> Play:
        dropped = self.shared.keys() - self.vectors.keys()
        for name in self.vectors.keys() - set(silent):
            self.revealed[name] = self.masked[name].unmask(sorted(self.vectors), sorted(dropped))
        return self

    def result(self) -> Unmasked:
        return self.server.unmask(self.vectors, self.revealed)


def values_of(sites: Collection[str], size: int, seed: int = 0) -> dict[str, NDArray[np.float64]]:
    """Return a weighted update for each site."""
    random = np.random.default_rng(seed)
    return {name: random.normal(size=size) * random.integers(1, 2000) for name in sorted(sites)}

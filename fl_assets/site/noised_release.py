"""Noised sums that a hospital releases once: charged before a row is read, stored, told again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fl_assets.config import StrictModel
from fl_assets.consortium import PrivacyBudget
from fl_assets.learning.inputs import Floats
from fl_assets.privacy import accounting
from fl_assets.privacy.events import MechanismEvent
from fl_assets.privacy.ledger import Ledger
from fl_assets.privacy.noised_counts import Noised, add_noise
from fl_assets.storage import ObjectExistsError, ObjectNotFoundError, SiteStore
from fl_assets.storage.documents import load_document

if TYPE_CHECKING:
    from fl_assets.privacy.noise import NoiseSource


class _Stored(StrictModel):
    values: tuple[float, ...]


@dataclass(frozen=True)
class NoisedRelease:
    """With how much noise a hospital tells sums over its patients, and who pays for it.

    Attributes:
        hospital: name.
        budget: of the hospital, read at the hospital.
        epsilon, delta: of the release.
        noise: where the noise comes from; a key of the operating system's if None.
    """

    hospital: str
    budget: PrivacyBudget
    epsilon: float
    delta: float
    noise: NoiseSource | None = None

    def told(self, sensitivity: float) -> Noised:
        """Return what to say of the noise of a release with this L2 sensitivity."""
        deviation = sensitivity * self._noise_multiplier
        return Noised(epsilon=self.epsilon, delta=self.delta, deviation=deviation)

    def sums(
        self,
        store: SiteStore,
        key: str,
        exact: Callable[[], Floats],
        sensitivity: float,
        *,
        run: str,
        what: str,
    ) -> Floats:
        """Return sums with noise, of which everything that leaves must be made.

        Sums that were released under this key, epsilon and delta before are returned again,
        without a new charge. They are stored before they are returned. A crash between the charge
        and that costs the charge, and two who ask at the same moment are both charged and get the
        same.

        Args:
            store: the hospital's own.
            key: names the rows and what is summed over them.
            exact: reads the rows and sums, [k]. It is not called where nothing is left to spend,
                or the sums are stored.
            sensitivity: the most that adding or removing one patient moves the sums, in L2 norm.
            run: who asks, for the ledger.
            what: for people, for the ledger.

        Raises:
            BudgetExceededError: it does not fit into what is left of the budget.
            LedgerDamagedError: the ledger is not whole.
        """
        place = f"noised/{key}/epsilon-{self.epsilon}-delta-{self.delta}.json"
        try:
            return _load(store, place)
        except ObjectNotFoundError:
            pass
        event = MechanismEvent(noise_multiplier=self._noise_multiplier)
        Ledger(store, self.hospital).charge(run, [event], self.budget, self.epsilon, what)
        noised = add_noise(exact(), sensitivity, event.noise_multiplier, self._noise_source())
        try:
            store.put_if_absent(place, _Stored(values=tuple(noised)).model_dump_json().encode())
        except ObjectExistsError:
            return _load(store, place)
        return noised

    @property
    def _noise_multiplier(self) -> float:
        return accounting.noise_multiplier(self.epsilon, self.delta, sampling_rate=1.0, steps=1)

    def _noise_source(self) -> NoiseSource:
        # Torch, which who only looks at profiles does not need.
        from fl_assets.privacy.noise import SecureNoise

        return self.noise or SecureNoise()


def _load(store: SiteStore, place: str) -> Floats:
    return np.array(load_document(store, place, _Stored).values, dtype=np.float64)

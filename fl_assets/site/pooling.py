"""Demo only: the rows of all simulated hospitals in one frame.

A simulated consortium deals out a public data set, so its rows may be put together again, for
upper bounds and for tests. On a real consortium everything here refuses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd

from fl_assets.consortium import Consortium
from fl_assets.errors import FlAssetsError
from fl_assets.settings import Settings
from fl_assets.site import partitions
from fl_assets.storage import SiteStore


class NotSimulatedError(FlAssetsError):
    """Somebody tried to pool the rows of real hospitals."""

    def __init__(self, consortium: str) -> None:
        super().__init__(
            f"{consortium} is a real consortium: rows stay at their hospitals. Pooled figures "
            "exist only where consortium.yaml says `simulated: true`"
        )


def simulated_stores(settings: Settings, hospitals: Iterable[str]) -> dict[str, SiteStore]:
    """Return the stores of simulated hospitals, whose rows whoever deals them out may open.

    Raises:
        NotSimulatedError: the consortium is real.
    """
    if not settings.whole_consortium.simulated:
        raise NotSimulatedError(settings.whole_consortium.name)
    return {name: settings.site_store(name) for name in hospitals}


def pooled(
    consortium: Consortium, stores: Mapping[str, SiteStore], part: partitions.Part
) -> pd.DataFrame:
    """Return one part of all hospitals, in the order of their names, with a fresh index.

    Raises:
        NotSimulatedError: the consortium is real.
    """
    if not consortium.simulated:
        raise NotSimulatedError(consortium.name)
    frames = [
        partitions.load_part(stores[name], partitions.load_manifest(stores[name]), part)
        for name in sorted(stores)
    ]
    return pd.concat(frames, ignore_index=True)
